"""An evaluation from pair tables to the document of report.json: the same whatever the workers, and nothing dropped in silence."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import rasterio
import torch
from scipy.ndimage import distance_transform_edt

from catalogs.pairs import PairTable
from catalogs.splits import Splits
from pipeline import cases
from pipeline.bandsets import BAND_SETS
from pipeline.baselines import BASELINES, TEMPORAL
from pipeline.cases import KINDS
from pipeline.chips import read_chip
from pipeline.errors import InvalidSettings
from pipeline.evaluation import Evaluation, evaluate
from pipeline.images import CLEAR
from pipeline.pairs import build_pairs
from pipeline.pictures import PICTURES
from pipeline.report import schema
from pipeline.report_methods import FIRST_GUESS
from srgan.checkpoint import Checkpoint
from tests.pipeline.made_cases import detector, made_series, made_table, smallest, write_pair
from tests.pipeline.made_chips import found, land, place, write_item

torch.set_num_threads(1)


@pytest.fixture(scope="module", autouse=True)
def _quick() -> Iterator[None]:
    """A cloud detector without a model, and made clouds over one date of a chip."""
    with detector(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(cases, "SKY_DATES", 1)
        yield


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> PairTable:
    """Read it, never change its files."""
    return made_table(tmp_path_factory.mktemp("pairs"))


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> PairTable:
    return made_series(tmp_path_factory.mktemp("series"))


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return smallest()


@pytest.fixture(scope="module")
def both(table: PairTable, series: PairTable, checkpoint: Checkpoint) -> Evaluation:
    return evaluate(
        [table, series], "test", checkpoint, compare=[smallest("other", 1)], band_sets=["13", "4"], workers=2
    )


def rows(document: Mapping[str, Any], **wanted: str) -> list[dict[str, Any]]:
    keys = {"cover": "any", "sky": "any", "ground": "any"} | wanted
    return [row for row in document["rows"] if all(row[name] == value for name, value in keys.items())]


def comparable(evaluation: Evaluation) -> str:
    document = evaluation.document() | {"created": "", "seconds": 0}
    return json.dumps(document, allow_nan=False)


def test_the_document_is_what_the_schema_asks_for(both: Evaluation) -> None:
    document = both.document()
    jsonschema.Draft202012Validator(schema()).validate(document)
    json.dumps(document, allow_nan=False)
    assert document["checkpoint"]["name"] == "smallest"
    assert [entry["name"] for entry in document["compared"]] == ["other"]
    assert document["settings"]["band_sets"]["13"] == list(BAND_SETS["13"])
    assert set(document["mask"]) == {"s2cloudless", "s2cloudless + comparison"}


def test_every_protocol_set_and_method_is_there(both: Evaluation) -> None:
    document = both.document()
    found = {(row["protocol"], row["bands"]) for row in rows(document, region="cloudy", method="smallest")}
    real = {(protocol, bands) for protocol in ("pair", "pair+1 date", "pair+dates") for bands in ("13", "4")}
    assert found == real | {("synthetic", "13"), ("synthetic+dates", "13")}
    for protocol in ("pair", "pair+dates"):
        methods = [row["method"] for row in rows(document, protocol=protocol, bands="13", region="cloudy")]
        assert methods[:3] == ["smallest", "other", FIRST_GUESS]
        temporal = set(TEMPORAL) if protocol == "pair+dates" else set()
        assert set(methods[3:]) == (set(BASELINES) - set(TEMPORAL)) | temporal
    skies = {row["sky"] for row in document["rows"] if row["protocol"] == "synthetic"}
    assert skies == {"any", *KINDS}
    # Chips of fewer than 256 pixels are not those of the seed's protocol.
    assert not rows(document, protocol="seed")


def test_scores_are_those_of_the_images(both: Evaluation) -> None:
    document = both.document()
    for row in rows(document, bands="13"):
        images = [
            image["scores"][row["method"]][row["region"]]
            for image in document["images"]
            if row["protocol"] in (image["protocol"], *image["also"])
            and row["region"] in image["scores"].get(row["method"], {})
        ]
        assert row["images"] == len(images)
        assert row["mean"]["rmse"] == pytest.approx(np.mean([scores["rmse"] for scores in images]), rel=1e-5)


def test_a_product_keeps_what_is_clear(both: Evaluation) -> None:
    kept = rows(both.document(), region="clear_input")
    assert {row["method"] for row in kept} >= {"smallest", "other", *BASELINES}
    assert {row["mean"]["rmse"] for row in kept} == {0.0}
    assert all(row["identical"] == row["images"] for row in kept)


def test_identity_is_the_input(both: Evaluation, table: PairTable) -> None:
    """The figures of doing nothing, found from the files."""
    document = both.document()
    (image,) = (image for image in document["images"] if image["id"] == "ROIs1158_spring_2_p1.pair")
    row = table.frame[table.frame["id"] == "ROIs1158_spring_2_p1"]
    sides = []
    for side in ("cloudy_href", "clear_href"):
        with rasterio.open(row[side].iloc[0]) as file:
            sides.append(file.read().astype(np.float64) / 1e4)
    grown = distance_transform_edt(read_chip(row).masks[1] == CLEAR) <= 10
    error = (sides[0] - sides[1])[:, grown]
    assert image["scores"]["identity"]["cloudy"]["rmse"] == pytest.approx(np.sqrt((error**2).mean()), rel=1e-5)
    assert image["cover"] == pytest.approx(grown.mean())


def test_rows_are_used_or_told(both: Evaluation) -> None:
    chips = both.document()["chips"]
    assert chips["rows"] == 4 + 3
    told = {entry["id"]: entry["reason"] for entry in chips["left_out"]}
    assert told["ROIs1158_spring_1_p3"].startswith("clear_side_cloudy")
    (beyond,) = (reason for name, reason in told.items() if name.startswith("ROIs2017_146"))
    assert beyond == "3 clear dates are there, made clouds are laid over 1 of a chip"
    assert chips["used"] == chips["rows"] - 2


def test_pictures_of_each_image(both: Evaluation) -> None:
    document = both.document()
    assert set(both.pictures) == {image["id"] for image in document["images"]}
    assert all(set(shown) == set(PICTURES) for shown in both.pictures.values())
    assert all(blob[:4] == b"RIFF" for shown in both.pictures.values() for blob in shown.values())


def test_the_same_whatever_the_workers(table: PairTable, checkpoint: Checkpoint) -> None:
    threads = torch.get_num_threads()
    one, two = (evaluate([table], "test", checkpoint, band_sets=["4", "3"], workers=workers) for workers in (1, 2))
    assert comparable(one) == comparable(two)
    assert one.pictures == two.pictures
    assert torch.get_num_threads() == threads


class Sink:
    def __init__(self) -> None:
        self.rows: dict[str, tuple[tuple[str, ...], np.ndarray]] = {}
        self.pictures: dict[str, Mapping[str, bytes]] = {}

    def write(self, row: str, bands: Sequence[str], prediction: np.ndarray, valid: np.ndarray | None = None) -> None:
        assert valid is not None
        assert valid.all()
        self.rows[row] = tuple(bands), prediction


def test_sinks_take_predictions_and_pictures(table: PairTable, checkpoint: Checkpoint) -> None:
    sink = Sink()
    told: list[tuple[str, int, int]] = []
    evaluation = evaluate(
        [table], "test", checkpoint, band_sets=["3", "4"], predictions=sink, pictures=sink.pictures.__setitem__,
        progress=lambda *step: told.append(step),
    )  # fmt: skip
    assert set(sink.rows) == {"ROIs1158_spring_1_p1", "ROIs1158_spring_2_p1"}
    assert {bands for bands, _ in sink.rows.values()} == {BAND_SETS["4"]}
    assert not evaluation.pictures
    document = evaluation.document()
    assert set(sink.pictures) == {image["id"] for image in document["images"]}
    assert {row["bands"] for row in document["rows"]} == {"4"}
    assert {stage for stage, _, _ in told} == {"evaluate"}
    done = [done for _, done, _ in told]
    assert done == sorted(done)
    assert done[0] == 0
    assert told[-1][1] == told[-1][2] >= len(document["images"])


def test_files_that_are_gone_are_told(table: PairTable, checkpoint: Checkpoint, tmp_path: Path) -> None:
    gone = table.frame.copy()
    at = gone.index[gone["id"] == "ROIs1158_spring_2_p1"][0]
    gone.loc[at, "cloudy_href"] = str(tmp_path / "gone.tif")
    evaluation = evaluate([replace(table, frame=gone)], "test", checkpoint, band_sets=["4"], workers=2)
    chips = evaluation.document()["chips"]
    told = {entry["id"]: entry["reason"] for entry in chips["left_out"]}
    assert "gone.tif: moved or deleted since" in told["ROIs1158_spring_2_p1"]
    assert (chips["rows"], chips["used"], chips["unread"]) == (4, 2, 1)
    nowhere = replace(table, frame=table.frame.assign(clear_href=str(tmp_path / "gone.tif")))
    with pytest.raises(
        InvalidSettings,
        match=r"split 'test': none of its 4 rows can be scored, the first: .*gone\.tif: moved or deleted since",
    ):
        evaluate([nowhere], "test", checkpoint)


def test_a_chip_of_other_bands_is_told(checkpoint: Checkpoint, tmp_path: Path) -> None:
    clear = np.full((64, 64), 4, np.uint8)
    cloudy = clear.copy()
    cloudy[:20] = 9
    href = {
        "2023-08-10": write_item(tmp_path / "a", {"B02": land(1)[1], "B08": land(1)[7]}, cloudy, day="2023-08-10"),
        "2023-08-13": write_item(tmp_path / "b", {"B02": land(2)[1], "B08": land(2)[7]}, clear, day="2023-08-13"),
    }
    odd = build_pairs(found(place("33TWL_L2A_p1", href, "stac", split="test")))[0]
    pair = place("ROIs1158_spring_1_p1", write_pair(tmp_path, "x", 1), "sen12mscr", split="test")
    good = build_pairs(found(pair))[0]
    told = evaluate([odd, good], "test", checkpoint, band_sets=["4"]).document()["chips"]
    assert told["left_out"] == [
        {"id": name, "reason": "its bands B02 B08 hold none of the band sets 4"} for name in odd.frame["id"]
    ]
    assert told["used"] == 1


def test_a_checkpoint_that_lacks_a_band_is_told(table: PairTable, checkpoint: Checkpoint) -> None:
    lacking = replace(checkpoint, name="lacking", spec=checkpoint.spec.model_copy(update={"bands": BAND_SETS["12"]}))
    with pytest.raises(
        InvalidSettings, match="checkpoint lacking does not know B10: no band set is left, ask for another with --bands"
    ):
        evaluate([table], "test", lacking, band_sets=["13"])
    evaluation = evaluate([table], "test", checkpoint, compare=[lacking], band_sets=["13"], limit=1)
    document = evaluation.document()
    assert {"id": "13 bands", "reason": "checkpoint lacking does not know B10: without it"} in document["chips"][
        "left_out"
    ]
    assert "lacking" not in {row["method"] for row in document["rows"]}


def test_what_cannot_be_asked_for(table: PairTable, checkpoint: Checkpoint) -> None:
    with pytest.raises(InvalidSettings, match="is given twice: leave one out"):
        evaluate([table], "test", checkpoint, compare=[smallest("smallest", 0), smallest("smallest", 0)])
    with pytest.raises(InvalidSettings, match="--bands 7: 13, 12, 4, 3 are possible"):
        evaluate([table], "test", checkpoint, band_sets=["7"])
    with pytest.raises(InvalidSettings, match="workers 0 must be 1 or more"):
        evaluate([table], "test", checkpoint, workers=0)
    with pytest.raises(InvalidSettings, match="no row in the split 'other'; there are: train 1, val 1, test 4"):
        evaluate([table], "other", checkpoint)


def test_names_of_methods_are_kept_apart(table: PairTable) -> None:
    document = evaluate(
        [table], "test", smallest("telea"), compare=[smallest("same", 1), smallest("same", 2)], band_sets=["4"], limit=1
    ).document()
    own = f"telea {'0' * 8}"
    assert document["checkpoint"]["name"] == own
    assert [entry["name"] for entry in document["compared"]] == ["same", f"same {'0' * 8}"]
    assert {own, "same", "telea"} <= {row["method"] for row in document["rows"]}


def test_a_real_pair(shared_data: Path, checkpoint: Checkpoint) -> None:
    """A real chip of 256 x 256: the seed's protocol in its band sets, and real cloud that does more harm than what fills it."""
    from catalogs.places import find_places

    splits = Splits("one", {"ROIs1158_spring_39": "test"}, rest="train")
    tree = find_places(str(shared_data / "SEN12MSCR"), "sen12mscr", splits=splits)
    place_ = next(place for place in tree.places if place.id == "ROIs1158_spring_39_p100")
    table = build_pairs(replace(tree, places=(place_,), rejects=()))[0]
    document = evaluate([table], "test", checkpoint, band_sets=["4", "3"], workers=1).document()
    seed = rows(document, protocol="seed", region="all", method="smallest")
    assert [(row["bands"], row["images"]) for row in seed] == [("4", 1), ("3", 1)]
    (nothing,) = rows(document, protocol="pair", region="cloudy", method="identity")
    (fill,) = rows(document, protocol="pair", region="cloudy", method="mean fill")
    assert nothing["mean"]["psnr"] < fill["mean"]["psnr"]
    grounds = {row["ground"] for row in document["rows"] if row["protocol"] == "pair"}
    assert "vegetation" in grounds
    assert document["confidence"]["risk_coverage"][-1]["coverage"] == 1
