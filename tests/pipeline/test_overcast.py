"""Clouds of one date over another: the optics come back, nothing else changes, and what cannot be laid is told."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import rasterio

from catalogs.query import Query
from catalogs.search import search
from pipeline.errors import InvalidScene, InvalidSettings
from pipeline.overcast import SCL_OF, lay_clouds

from .made import made_item

SIZE = 120
CLOUD = (slice(30, 66), slice(24, 84))
SHADOW = (slice(80, 100), slice(30, 60))
GROWN = 10  # pixels: 100 metres
NAMES = ("B02", "B03", "B04", "B08")
TAU = 12.0
"""Optical thickness of the cloud."""


def day(number: int) -> datetime:
    return datetime(2023, 8, number, 10, tzinfo=UTC)


def land(seed: int = 0, *, size: int = SIZE) -> dict[str, np.ndarray]:
    """Reflectance by band: fields with edges, in 10 m pixels; B11 in 20 m."""
    rng = np.random.default_rng(seed)
    fields = np.kron(rng.uniform(0.6, 1.4, (size // 12, size // 12)), np.ones((12, 12)))
    levels = {"B02": 0.05, "B03": 0.08, "B04": 0.09, "B08": 0.3, "B11": 0.2}
    made = {name: level * fields * rng.normal(1, 0.01, fields.shape) for name, level in levels.items()}
    made["B11"] = made["B11"].reshape(size // 2, 2, size // 2, 2).mean(axis=(1, 3))
    return made


def cloud(reflectance: np.ndarray, tau: float = TAU) -> np.ndarray:
    """A layer of water droplets over ground, worked out by hand: Bohren (1987), equation 21, and the adding method."""
    sent_back = 0.15 * tau / (2 + 0.15 * tau)
    return sent_back + (1 - sent_back) ** 2 * reflectance / (1 - sent_back * reflectance)


def scene(folder: Path, number: int, reflectance: dict[str, np.ndarray], classes: dict | None = None, **changes):
    """Write a date; `classes`: SCL value -> window."""
    scl = np.full((SIZE, SIZE), 4, np.uint8)
    for value, window in (classes or {}).items():
        scl[window] = value
    counts = {
        name: np.rint((values - changes.get("offset", 0)) * 1e4).astype(np.uint16)
        for name, values in reflectance.items()
    }
    if changes.pop("hole", False):
        for values in (*counts.values(), scl):
            values[:, :6] = 0
    return made_item(
        folder / f"S2A_33TWL_202308{number:02d}_0_L2A", counts, scl=scl, when=day(number), tile="33TWL", **changes
    )


def dates(folder: Path, names=NAMES, **changes):
    """Truth, donor under a cloud and a shadow, and the donor's ground on a clear date with another gain."""
    truth, ground = land(1), land(2)
    above = {name: values.copy() for name, values in ground.items()}
    for values in above.values():
        step = SIZE // values.shape[0]
        at = tuple(slice(part.start // step, part.stop // step) for part in CLOUD)
        under = tuple(slice(part.start // step, part.stop // step) for part in SHADOW)
        values[at] = cloud(values[at])
        values[under] *= 0.5
    clear = {name: values / 1.1 - 0.005 for name, values in ground.items()}
    chosen = [{name: values[name] for name in names} for values in (truth, above, clear)]
    return (
        scene(folder, 15, chosen[0], **changes),
        scene(folder, 18, chosen[1], {9: CLOUD, 3: SHADOW}),
        scene(folder, 13, chosen[2]),
    )


def pixels(path: str | Path) -> np.ndarray:
    with rasterio.open(path) as dataset:
        return dataset.read(1)


def inner(window: tuple[slice, slice], by: int) -> tuple[slice, slice]:
    return tuple(slice(part.start + by, part.stop - by) for part in window)


def outer(by: int) -> np.ndarray:
    """bool, True = within `by` pixels of cloud or shadow."""
    near = np.zeros((SIZE, SIZE), bool)
    for window in (CLOUD, SHADOW):
        near[tuple(slice(max(part.start - by, 0), part.stop + by) for part in window)] = True
    return near


def test_the_cloud_comes_off_one_ground_and_over_another(tmp_path):
    truth, donor, ground = dates(tmp_path)
    made = lay_clouds(truth, donor, ground, tmp_path / "made")
    reflectance = land(1)
    for name in NAMES:
        seen = pixels(made.item.bands[name].href) / 1e4
        expected = cloud(reflectance[name])
        error = np.abs(seen - expected)[inner(CLOUD, 4)]
        assert error.mean() < 0.01, name
        assert error.max() < 0.04, name
        # Without a cloud it would be this far away.
        assert np.abs(reflectance[name] - expected)[inner(CLOUD, 4)].mean() > 0.2


def test_no_light_is_carried_out_of_a_cloud_with_a_hard_edge(tmp_path):
    truth, donor, ground = dates(tmp_path)
    made = lay_clouds(truth, donor, ground, tmp_path / "made")
    fringe = outer(6)
    for window in (CLOUD, tuple(slice(part.start - 3, part.stop + 3) for part in SHADOW)):
        fringe[window] = False
    for name in NAMES:
        added = pixels(made.item.bands[name].href).astype(int) - pixels(truth.bands[name].href)
        assert added[fringe].max() < 50, name


def test_a_shadow_takes_the_share_that_it_took(tmp_path):
    truth, donor, ground = dates(tmp_path)
    made = lay_clouds(truth, donor, ground, tmp_path / "made")
    for name in NAMES:
        left = pixels(made.item.bands[name].href)[inner(SHADOW, 3)] / pixels(truth.bands[name].href)[inner(SHADOW, 3)]
        np.testing.assert_allclose(left, 0.5, atol=0.04)
    expected = np.zeros((SIZE, SIZE), bool)
    expected[SHADOW] = True
    np.testing.assert_array_equal(made.shadow, expected)


def test_outside_the_grown_clouds_every_value_is_the_truths(tmp_path):
    truth, donor, ground = dates(tmp_path, hole=True)
    made = lay_clouds(truth, donor, ground, tmp_path / "made")
    changed = outer(GROWN)
    for name in NAMES:
        before, after = pixels(truth.bands[name].href), pixels(made.item.bands[name].href)
        np.testing.assert_array_equal(after[~changed], before[~changed])
        np.testing.assert_array_equal(after == 0, before == 0)
    assert made.laid == pytest.approx((36 * 60 + 20 * 30) / (SIZE * (SIZE - 6)))
    assert made.left_out == 0
    assert not made.truth[:, :6].any()
    assert made.truth[:, 6:].all()


def test_the_written_item_is_read_like_any_other(tmp_path):
    truth, donor, ground = dates(tmp_path, offset=-0.1)
    made = lay_clouds(truth, donor, ground, tmp_path / "made")
    found = search(Query(), str(tmp_path / "made" / f"{made.item.id}.json"))
    assert [item.id for item in found] == ["S2A_33TWL_20230815_0_L2A_under_20230818"]
    (item,) = found
    assert item.datetime == truth.datetime
    assert list(item.bands) == list(NAMES)
    assert {(band.scale, band.offset, band.nodata) for band in item.bands.values()} == {(1e-4, -0.1, 0)}
    assert item.cloud_cover == pytest.approx(100 * made.laid, abs=0.01)
    scl = pixels(item.scl.href)
    assert (scl[CLOUD] == SCL_OF[3]).all()
    assert (scl[SHADOW] == 3).all()
    assert (scl[~outer(0)] == 7).all()
    document = json.loads(Path(item.origin).read_text())
    assert "no satellite took this picture" in document["properties"]["description"]


@pytest.mark.parametrize("block", [24, 60])
def test_blocks_change_no_byte(tmp_path, block):
    truth, donor, ground = dates(tmp_path, (*NAMES, "B11"))
    told = []
    whole = lay_clouds(truth, donor, ground, tmp_path / "whole")
    parts = lay_clouds(
        truth, donor, ground, tmp_path / "parts", block=block, threads=2, progress=lambda *done: told.append(done)
    )
    for name, band in whole.item.bands.items():
        assert Path(band.href).read_bytes() == Path(parts.item.bands[name].href).read_bytes(), name
    assert told[-1] == ((SIZE // block) ** 2, (SIZE // block) ** 2)
    assert told == sorted(told)


def test_a_coarser_band_gets_its_mean_and_keeps_its_grid(tmp_path):
    truth, donor, ground = dates(tmp_path, (*NAMES, "B11"))
    made = lay_clouds(truth, donor, ground, tmp_path / "made")
    before, after = pixels(truth.bands["B11"].href), pixels(made.item.bands["B11"].href)
    assert after.shape == (SIZE // 2, SIZE // 2)
    changed = outer(GROWN).reshape(SIZE // 2, 2, SIZE // 2, 2).any(axis=(1, 3))
    np.testing.assert_array_equal(after[~changed], before[~changed])
    thick = tuple(slice(part.start // 2 + 3, part.stop // 2 - 3) for part in CLOUD)
    assert after[thick].mean() > before[thick].mean() + 1000


def test_bands_can_be_chosen(tmp_path):
    truth, donor, ground = dates(tmp_path, (*NAMES, "B11"))
    made = lay_clouds(truth, donor, ground, tmp_path / "made", bands=("B02", "B03", "B04"))
    assert list(made.item.bands) == ["B02", "B03", "B04"]


def test_where_the_clear_date_is_not_clear_the_truth_is_the_ground(tmp_path):
    truth, donor, _ = dates(tmp_path)
    hidden = (slice(0, SIZE), slice(0, 54))
    values = {name: np.where(np.arange(SIZE) < 54, 0.7, land(2)[name]) for name in NAMES}
    made = lay_clouds(truth, donor, scene(tmp_path, 13, values, {8: hidden}), tmp_path / "made")
    assert made.left_out == 0
    for name in NAMES:
        seen = pixels(made.item.bands[name].href) / 1e4
        assert np.abs(seen - cloud(land(1)[name]))[34:62, 28:50].mean() < 0.03


def test_clouds_over_ground_that_nobody_saw_are_left_out_and_told(tmp_path):
    _, donor, _ = dates(tmp_path)
    hidden = (slice(0, SIZE), slice(0, 44))
    truth = scene(tmp_path / "b", 15, {name: land(1)[name] for name in NAMES}, {9: hidden})
    ground = scene(tmp_path / "b", 13, {name: land(2)[name] for name in NAMES}, {9: hidden})
    made = lay_clouds(truth, donor, ground, tmp_path / "made")
    gone = 44 + GROWN
    expected = (36 * (gone - 24) + 20 * (gone - 30)) / (36 * 60 + 20 * 30)
    assert made.left_out == pytest.approx(expected)
    before, after = pixels(truth.bands["B08"].href), pixels(made.item.bands["B08"].href)
    np.testing.assert_array_equal(after[:, :44], before[:, :44])
    assert not made.truth[:, :gone].any()
    assert made.truth[:, gone:].all()


def test_what_cannot_be_laid_is_named(tmp_path):
    truth, donor, ground = dates(tmp_path)
    with pytest.raises(InvalidScene, match=r"S2A_33TWL_20230813.*no cloud of it can be laid.*choose another date"):
        lay_clouds(truth, ground, donor, tmp_path / "made")
    assert not list((tmp_path / "made").glob("*"))
    for name in ("B02", "B03", "B04"):
        with pytest.raises(InvalidSettings, match=f"it lacks {name}"):
            lay_clouds(truth, donor, ground, tmp_path / "made", bands=[one for one in NAMES if one != name])
    values = {name: land(2)[name] for name in NAMES}
    moved = scene(tmp_path / "c", 12, values, origin=(499990.0, 5100000.0))
    with pytest.raises(InvalidSettings, match="another grid"):
        lay_clouds(truth, donor, moved, tmp_path / "made")
    lacking = scene(tmp_path / "d", 12, {name: values[name] for name in ("B02", "B03", "B04")})
    with pytest.raises(InvalidSettings, match="no band B08"):
        lay_clouds(truth, donor, lacking, tmp_path / "made")
    with pytest.raises(InvalidSettings, match="block 25"):
        lay_clouds(*dates(tmp_path / "e", (*NAMES, "B11")), tmp_path / "made", block=25)
