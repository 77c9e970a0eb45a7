"""Trials of whole scenes: which there are, that nothing of the truth leaks, and scores that a second reader of the files finds too."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from datetime import UTC, datetime

import jsonschema
import numpy as np
import pytest
import rasterio

from catalogs.item import BandAsset, SceneItem
from catalogs.query import Query
from catalogs.search import search
from pipeline.baselines import TEMPORAL
from pipeline.errors import InvalidSettings
from pipeline.overcast import lay_clouds
from pipeline.prepare import prepare
from pipeline.report import plain, schema
from pipeline.scene import open_scene
from pipeline.settings import DecloudSettings, Resources
from pipeline.trial import Trial, find_trials, run_trial
from pipeline.trial_scores import METHODS, score
from srgan.metrics import REGIONS

from .test_overcast import CLOUD, NAMES, SHADOW, SIZE, cloud, land, scene

IDENTITY = DecloudSettings(checkpoint="identity", references=2, tile=64, overlap=16)
ONE = Resources(workers=1)


def stated(
    number: int, cover: float | None, *, bands: tuple[str, ...] = NAMES, tile: str | None = "33TWL", orbit: int = 0
):
    """An item without files."""
    assets = {name: BandAsset(name, name, f"/none/{name}.tif") for name in bands}
    when = datetime(2023, 8, number, 10, orbit, tzinfo=UTC)
    return SceneItem(f"S2A_{tile}_202308{number:02d}_{orbit}_L2A", when, assets, tile=tile, cloud_cover=cover)


def series(folder, **changes) -> dict[int, SceneItem]:
    """Four dates of one tile: 13, 15 and 20 clear, 18 under a cloud and a shadow; each at a level of its own."""
    ground = land(1)
    donor = {name: values.copy() for name, values in ground.items()}
    for name, values in donor.items():
        step = SIZE // values.shape[0]
        at, under = (tuple(slice(p.start // step, p.stop // step) for p in window) for window in (CLOUD, SHADOW))
        values[at] = cloud(values[at])
        values[under] *= 0.5
        donor[name] = values
    names = changes.pop("names", NAMES)
    levels = {13: (1.0, 0.0), 15: (1.05, 0.004), 18: (1.0, 0.0), 20: (1.2, -0.01)}
    made = {}
    for day, (gain, offset) in levels.items():
        values = donor if day == 18 else {name: gain * of + offset for name, of in ground.items()}
        classes = {9: CLOUD, 3: SHADOW} if day == 18 else {}
        item = scene(folder, day, {name: values[name] for name in names}, classes, **changes)
        made[day] = replace(item, cloud_cover=20.0 if day == 18 else 0.0)
    return made


def trial_of(items: dict[int, SceneItem]) -> Trial:
    return next(trial for trial in find_trials(list(items.values())) if trial.truth.id == items[15].id)


def rows(document) -> dict[tuple[str, str], dict]:
    return {(row["method"], row["region"]): row for row in document["rows"]}


def pixels(path) -> np.ndarray:
    with rasterio.open(path) as dataset:
        return dataset.read(1)


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A trial with the identity for a network, and its folder."""
    folder = tmp_path_factory.mktemp("trial")
    items = series(folder / "source")
    told = []
    result = run_trial(
        trial_of(items), folder / "work", IDENTITY, resources=ONE, progress=lambda *event: told.append(event)
    )
    return result, folder / "work", told


def test_clear_scenes_are_tried_under_the_nearest_clouds_first():
    items = [stated(10, 68.0), stated(13, 1.7), stated(15, 0.2), stated(18, 44.0), stated(20, 8.0)]
    expected = [(15, 18, 13), (13, 10, 15), (15, 10, 13), (13, 18, 15)]
    for order in itertools.islice(itertools.permutations(items), 0, None, 17):
        found = find_trials(order)
        assert [(t.truth.datetime.day, t.donor.datetime.day, t.ground.datetime.day) for t in found] == expected
        assert found.reasons == ()
    assert [trial.id for trial in find_trials(items, 2)] == [trial.id for trial in find_trials(items)][:2]
    assert len(find_trials(items, 2)) == 2
    assert len({trial.id for trial in find_trials(items)}) == 4


def test_neither_the_truths_day_nor_the_donors_can_be_a_reference():
    items = [stated(10, 68.0), stated(15, 0.2), stated(15, 3.0, orbit=1), stated(18, 44.0), stated(18, 50.0, orbit=1)]
    found = find_trials([*items, stated(20, None)])
    assert len({trial.id for trial in found}) == len(found) == 4, "of the two donors of one day one lends its clouds"
    for trial in found:
        held_out = {trial.truth.datetime.day, trial.donor.datetime.day}
        assert not held_out & {item.datetime.day for item in trial.candidates}
        assert trial.ground == trial.truth, "the other clear scene is of the same day"
        assert 20 in {item.datetime.day for item in trial.candidates}
    with pytest.raises(InvalidSettings, match=r"20230815_1.*cannot be a reference"):
        Trial(items[1], items[3], items[1], (items[2],))
    with pytest.raises(InvalidSettings, match="must be another date"):
        Trial(items[1], items[1], items[2])


def test_tiles_do_not_mix_and_those_without_a_trial_say_why():
    items = [
        stated(10, 68.0), stated(15, 0.2, tile="33TWM"),
        stated(10, None, tile="33TWN"),
        stated(10, 50.0, tile="33TWP", bands=("B02", "B03", "B04")), stated(12, 1.0, tile="33TWP"),
        stated(10, 99.0, tile="33TWQ"), stated(12, 1.0, tile="33TWQ"),
    ]  # fmt: skip
    found = find_trials(items)
    assert len(found) == 0
    assert found.reasons == (
        "33TWL: none of 1 scenes has at most 5 % cloud",
        "33TWM: none of 1 scenes has 20 to 95 % cloud to lend",
        "33TWN: none of 1 scenes states its cloud cover",
        "33TWP: no cloudy scene has the bands of a clear one on another day",
        "33TWQ: none of 2 scenes has 20 to 95 % cloud to lend",
    )
    assert find_trials([]).reasons == ("the catalogue has no scene",)
    with pytest.raises(InvalidSettings, match="0 trials"):
        find_trials(items, 0)


def test_the_scores_of_the_identity_are_those_of_its_product(ran):
    result, _, told = ran
    document = result.document()
    scored = rows(document)
    assert {region for _, region in scored} == set(REGIONS)
    assert {method for method, _ in scored} == {"identity (checkpoint)", *METHODS}
    for region in REGIONS:
        assert scored["identity", region] == {**scored["identity (checkpoint)", region], "method": "identity"}
    for region in ("clear_input", "clear_target"):
        assert scored["identity", region]["mean"]["rmse"] == 0
        assert scored["identity", region]["mean"]["psnr"] is None
        assert scored["identity", region]["identical"] == 1
        assert scored["identity", region]["mean"]["cc"] == pytest.approx(1)
    assert scored["identity", "clear_input"]["mean"]["ssim_valid"] == pytest.approx(1)
    assert document["clear_changed"] == 0
    assert document["unseen"] == 0
    assert document["references"] == ["S2A_33TWL_20230813_0_L2A", "S2A_33TWL_20230820_0_L2A"]
    assert {stage for stage, _, _ in told} >= {"clouds", "score", "restore", "mask", "references"}
    assert document["seconds"] == pytest.approx(sum(document["stages"].values()), abs=0.01)


def test_another_reader_of_the_files_finds_the_same_errors(ran):
    result, work, _ = ran
    folder = work / result.trial.id / "scene"
    masked = np.isin(pixels(result.product.folder / "cloudmask.tif"), (2, 3, 4))
    truth = np.stack([pixels(result.trial.truth.bands[name].href) for name in NAMES]) / 1e4
    seen = np.stack([pixels(folder / f"{name}.tif") for name in NAMES]) / 1e4
    product = np.stack([pixels(result.product.folder / f"{name}.tif") for name in NAMES]) / 1e4
    scored = rows(result.document())
    for image in (seen, product):
        wrong = (image.clip(0, 1) - truth)[:, masked]
        assert scored["identity", "cloudy"]["mean"]["rmse"] == pytest.approx(np.sqrt((wrong**2).mean()), rel=1e-5)
        assert scored["identity", "cloudy"]["mean"]["mae"] == pytest.approx(np.abs(wrong).mean(), rel=1e-5)
    assert scored["identity", "cloudy"]["values"] == 4 * masked.sum()
    assert scored["identity", "all"]["values"] == 4 * SIZE**2
    assert scored["identity", "shadow"]["values"] == 4 * 20 * 30
    assert result.document()["cover"] == pytest.approx(masked.mean())
    mean = seen[:, ~masked].mean(axis=1)
    wrong = mean[:, None] - truth[:, masked]
    assert scored["mean fill", "cloudy"]["mean"]["rmse"] == pytest.approx(np.sqrt((wrong**2).mean()), rel=1e-4)


def test_harmonised_fills_find_a_ground_that_only_changed_its_level(ran):
    result, _, _ = ran
    errors = {
        method: row["mean"]["rmse"] for (method, region), row in rows(result.document()).items() if region == "cloudy"
    }
    for name in ("nearest date", "mean of dates", "linear in time", "median composite, harmonised"):
        assert errors[name] < 0.002, name
    # As observed, the dates are off by their level: 5 % and a little for the less cloudy, nearer one.
    assert errors["least-cloudy composite"] > 0.005
    assert errors["median composite"] > 0.002
    assert errors["mean fill"] > 0.03
    assert errors["identity"] > 0.2


def test_the_entry_fits_the_reports_schema(ran):
    result, _, _ = ran
    document = plain(result.document())
    assert document == json.loads(json.dumps(result.document(), allow_nan=False))
    whole = schema()
    part = {**whole["properties"]["scenes"]["items"], "$defs": whole["$defs"]}
    jsonschema.validate(document, part)
    assert document["truth"] == "S2A_33TWL_20230815_0_L2A"
    assert document["clouds_of"] == "S2A_33TWL_20230818_0_L2A"


def test_pictures_show_the_scene_the_truth_and_where_errors_are(ran):
    result, _, _ = ran
    assert list(result.pictures) == ["input", "prediction", "truth", "error"]
    assert {picture.shape for picture in result.pictures.values()} == {(SIZE, SIZE, 3)}
    np.testing.assert_array_equal(result.pictures["input"], result.pictures["prediction"])
    outside = ~np.isin(pixels(result.product.folder / "cloudmask.tif"), (2, 3, 4))
    np.testing.assert_array_equal(result.pictures["truth"][outside], result.pictures["input"][outside])
    assert result.pictures["error"][CLOUD].mean() > 200
    assert result.pictures["error"][outside].max() < 10


def test_cutting_the_scene_into_blocks_changes_no_score(tmp_path, ran):
    result, _, _ = ran
    truth, donor, ground = result.trial.truth, result.trial.donor, result.trial.ground
    overcast = lay_clouds(truth, donor, ground, tmp_path / "scene")
    told = []
    with open_scene(overcast.item) as seen, open_scene(truth) as open_truth:
        prepared = prepare(seen, IDENTITY, result.trial.candidates)
        parts = score(
            open_truth, prepared, overcast, result.product, result.method, values=4 * 37**2,
            progress=lambda done, total: told.append((done, total)),
        )  # fmt: skip
        prepared.close()
    assert told[-1] == (16, 16)
    assert parts.moments.keys() == result.scores.moments.keys()
    for key, moments in parts.moments.items():
        for name in ("values", "not_finite", "spectra", "same_windows", "valid_windows"):
            assert getattr(moments, name) == getattr(result.scores.moments[key], name), key
        for name in ("rmse", "mae", "sam", "cc", "ssim_same", "ssim_valid"):
            found, whole = (getattr(one.scores, name) for one in (moments, result.scores.moments[key]))
            assert found == pytest.approx(whole, rel=1e-6, abs=1e-9, nan_ok=True), (key, name)
    for name, picture in parts.pictures.items():
        np.testing.assert_array_equal(picture, result.pictures[name])


def test_without_references_temporal_fills_are_left_out_with_the_reason(tmp_path):
    settings = IDENTITY.model_copy(update={"references": 0, "max_generated": 0.0})
    result = run_trial(trial_of(series(tmp_path / "source")), tmp_path / "work", settings, resources=ONE)
    document = result.document()
    assert document["references"] == []
    assert set(document["left_out"]) == set(TEMPORAL)
    assert {method for method, _ in rows(document)} == {"identity (checkpoint)", "identity", "mean fill"}
    assert document["unseen"] == 1


def test_with_the_network_clear_pixels_stay_and_clouds_go_whatever_the_bands_grid(tmp_path):
    items = series(tmp_path / "source", names=(*NAMES, "B11"))
    settings = DecloudSettings(references=1, tile=128, overlap=32)
    result = run_trial(trial_of(items), tmp_path / "work", settings, resources=ONE)
    scored = rows(result.document())
    assert result.method == "default"
    assert result.bands == ("B02", "B03", "B04", "B08", "B11")
    assert result.document()["clear_changed"] == 0
    assert scored["default", "clear_input"]["mean"]["rmse"] == 0
    assert scored["default", "cloudy"]["mean"]["rmse"] < 0.25 * scored["identity", "cloudy"]["mean"]["rmse"]


def test_a_mask_that_is_a_file_is_refused(tmp_path):
    settings = IDENTITY.model_copy(update={"mask": "clouds.tif"})
    with pytest.raises(InvalidSettings, match=r"--mask clouds\.tif"):
        run_trial(trial_of(series(tmp_path / "source")), tmp_path / "work", settings, resources=ONE)


def test_the_real_series_has_four_trials_without_a_leak(shared_data):
    items = search(Query(), str(shared_data / "stac" / "earth-search" / "catalog.json"))
    found = find_trials(list(items))
    assert [(trial.truth.datetime.day, trial.donor.datetime.day) for trial in found] == [
        (15, 18),
        (13, 10),
        (15, 10),
        (13, 18),
    ]
    for trial in found:
        assert {item.datetime.day for item in trial.candidates} == {10, 13, 15, 18, 20} - {
            trial.truth.datetime.day, trial.donor.datetime.day
        }  # fmt: skip
