"""Predictions as files: what others read there is what was predicted, on the chip's own grid, whole or not at all."""

from __future__ import annotations

import resource
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from shapely.geometry import box
from skimage.metrics import peak_signal_noise_ratio

from catalogs.pairs import PairTable
from pipeline.errors import InvalidScene, InvalidSettings, WriteFailed
from pipeline.predictions import NODATA, SCALE, PredictionFolder, digital_numbers
from tests.pipeline.made_chips import NAMES, SIZE, clouded, land, write_item, write_patch

GROUP = "ROIs1158_spring_1"


def row(name: str, cloudy: str, clear: str, **changes: Any) -> dict[str, Any]:
    """A row of a pair table."""
    return {
        "id": name, "place": name, "group": GROUP, "split": "test", "role": "pair", "quality": "ok", "reason": "",
        "layout": "sen12mscr", "crs": "EPSG:32633", "mask": "s2cloudless", "clear_href": clear, "cloudy_href": cloudy,
        "geometry": box(15, 45, 15.03, 45.03),
    } | changes  # fmt: skip


@pytest.fixture(scope="module")
def patches(tmp_path_factory: pytest.TempPathFactory) -> PairTable:
    """One made pair of patches. Read it, never write to it."""
    folder = tmp_path_factory.mktemp("patches")
    ground = land()
    made = row(
        f"{GROUP}_p1",
        write_patch(folder / "cloudy.tif", clouded(ground, slice(0, 25))),
        write_patch(folder / "clear.tif", ground),
    )
    return PairTable.from_rows([made], layout="sen12mscr")


def predicted(seed: int = 0, count: int = 13, size: int = SIZE) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.0, 0.9, (count, size, size)).astype(np.float32)


def test_a_file_lies_on_the_chip_and_its_bands_have_names(patches: PairTable, tmp_path: Path) -> None:
    folder = PredictionFolder(tmp_path / "new" / "predictions", [patches], {"checkpoint": "made"})
    path = folder.write(f"{GROUP}_p1", NAMES, predicted())
    assert folder.written == [path]
    assert [entry.name for entry in path.parent.iterdir()] == [f"{GROUP}_p1.tif"]
    with rasterio.open(path) as file, rasterio.open(patches.frame["cloudy_href"].iloc[0]) as source:
        assert (file.crs, file.transform, file.shape) == (source.crs, source.transform, source.shape)
        assert file.descriptions == NAMES
        assert set(file.dtypes) == {"uint16"}
        assert file.nodata == NODATA
        assert file.scales == (1 / SCALE,) * 13
        assert file.tags()["checkpoint"] == "made"
        assert file.read_masks().min() == 255


def test_a_score_by_other_tools_is_the_score_of_the_prediction_to_the_rounding_of_dn(
    patches: PairTable, tmp_path: Path
) -> None:
    truth = land().astype(np.float64) / 1e4
    ours = np.clip(truth + np.random.default_rng(1).normal(0, 0.03, truth.shape), 0, 1).astype(np.float32)
    path = PredictionFolder(tmp_path, [patches]).write(f"{GROUP}_p1", NAMES, ours)
    with rasterio.open(path) as file:
        read = file.read() / 1e4
    # No value moves by more than half a DN, so neither does the root of the mean square: by Minkowski's inequality.
    bound = 0.5 / SCALE + 1e-9
    rmse = np.sqrt(np.mean((truth - ours) ** 2))
    assert abs(np.sqrt(np.mean((truth - read) ** 2)) - rmse) <= bound
    psnr = peak_signal_noise_ratio(truth, read, data_range=1)
    assert -20 * np.log10(rmse + bound) <= psnr <= -20 * np.log10(rmse - bound)


@given(
    arrays(np.float32, (2, 3, 4), elements=st.floats(width=32, allow_nan=True, allow_infinity=True)),
    arrays(np.bool_, (3, 4)),
)
def test_what_is_written_is_within_half_a_dn_and_nothing_is_made_up(values: np.ndarray, valid: np.ndarray) -> None:
    written = digital_numbers(values, valid)
    known = np.isfinite(values) & valid
    assert ((written == NODATA) == ~known).all()
    clipped = np.clip(values[known].astype(np.float64), 0, 1)
    assert (abs(written[known] / SCALE - clipped) <= 0.5 / SCALE + 1e-12).all()


def test_dn_come_back_as_they_were() -> None:
    every = np.arange(SCALE + 1, dtype=np.uint16).reshape(1, 1, -1)
    np.testing.assert_array_equal(digital_numbers(every.astype(np.float32) / np.float32(1e4)), every)


def test_a_window_of_a_scene_is_written_where_it_is(tmp_path: Path) -> None:
    fine, coarse = land(size=96)[1], land(size=48)[1]
    items = [
        write_item(tmp_path / day, {"B02": fine, "B11": coarse}, np.full((48, 48), 4, np.uint8), day=day)
        for day in ("2023-08-10", "2023-08-15")
    ]
    window = {"row": 12, "col": 30, "height": 64, "width": 48}
    name = "33TWL_L2A_120_500300_4999880_20230810"
    table = PairTable.from_rows([row(name, *items, layout="stac", **window)], layout="stac")
    path = PredictionFolder(tmp_path / "out", [table]).write(name, ("B02", "B11"), predicted(count=2)[:, :64, :48])
    with rasterio.open(path) as file, rasterio.open(tmp_path / "2023-08-10" / "B02.tif") as source:
        assert file.crs == source.crs
        assert file.shape == (64, 48)
        assert file.transform == rasterio.windows.transform(rasterio.windows.Window(30, 12, 48, 64), source.transform)
        assert file.descriptions == ("B02", "B11")


def test_the_same_prediction_is_the_same_file(patches: PairTable, tmp_path: Path) -> None:
    paths = [PredictionFolder(tmp_path / name, [patches]).write(f"{GROUP}_p1", NAMES, predicted()) for name in "ab"]
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_what_does_not_belong_is_refused(patches: PairTable, tmp_path: Path) -> None:
    folder = PredictionFolder(tmp_path / "out", [patches])
    with pytest.raises(InvalidSettings, match="no row 'ROIs_p2' in the pair tables"):
        folder.write("ROIs_p2", NAMES, predicted())
    with pytest.raises(InvalidScene, match=r"a prediction of \(13, 32, 32\) for 13 bands of \(64, 64\) pixels"):
        folder.write(f"{GROUP}_p1", NAMES, predicted(size=32))
    with pytest.raises(InvalidSettings, match="is in two pair tables: leave one out"):
        PredictionFolder(tmp_path / "out", [patches, patches])
    outside = PairTable.from_rows(
        [row("../up", *patches.frame[["cloudy_href", "clear_href"]].iloc[0])], layout="sen12mscr"
    )
    with pytest.raises(InvalidSettings, match="that can name a file"):
        PredictionFolder(tmp_path / "out", [outside]).write("../up", NAMES, predicted())
    assert folder.written == []
    assert not (tmp_path / "out").exists()


@pytest.fixture
def no_room() -> Iterator[None]:
    """Files may hold 20 KB at most, as on a disk that is nearly full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.usefixtures("no_room")
def test_a_full_disk_leaves_what_was_there(patches: PairTable, tmp_path: Path) -> None:
    folder = PredictionFolder(tmp_path / "out", [patches])
    name = f"{GROUP}_p1"
    small = np.full((13, SIZE, SIZE), 0.25, np.float32)
    before = folder.write(name, NAMES, small).read_bytes()
    with pytest.raises(WriteFailed, match=rf"{name}.tif: no space left on the disk: .*another --predictions"):
        folder.write(name, NAMES, predicted())
    assert [path.name for path in folder.folder.iterdir()] == [f"{name}.tif"]
    assert (folder.folder / f"{name}.tif").read_bytes() == before


def test_a_folder_that_is_a_file(patches: PairTable, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(WriteFailed, match=r"out/.*cannot be written"):
        PredictionFolder(tmp_path / "out", [patches]).write(f"{GROUP}_p1", NAMES, predicted())
    assert (tmp_path / "out").read_text() == "mine"
