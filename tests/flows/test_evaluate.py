"""`decloud evaluate` on made pairs: what it leaves, what it says, what it refuses, and that it can be scored by others."""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import rasterio
from skimage.metrics import structural_similarity

from catalogs.pairs import PairTable
from flows import interrupts
from flows.cli import main
from flows.evaluated import LISTED, left_out_lines
from pipeline.lock import locked
from pipeline.report import schema
from srgan.checkpoint import load_checkpoint, save_checkpoint
from srgan.spec import ModelSpec
from tests.flows.conftest import Decloud
from tests.flows.test_train import made_pairs
from tests.pipeline.made_chips import bright_is_cloud
from tests.srgan.made import lively

SPEC = ModelSpec(name="narrow", widths=(4, 4, 4, 8, 8, 8), depths=(1,) * 6)
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def made() -> Iterator[None]:
    """Clouds found without a model, one worker of one thread, and no ctrl-C left from before."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.images.s2cloudless", bright_is_cloud)
        interrupts.forget()
        yield
        interrupts.forget()


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of three made pairs: two of train, one of val. Read it, never write to it."""
    return made_pairs(tmp_path_factory.mktemp("pairs"))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that was not trained."""
    return save_checkpoint(tmp_path_factory.mktemp("made") / "made.safetensors", lively(SPEC), {"training": {}})


def command(pairs: Path, checkpoint: Path, output: Path, *more: object) -> list[str]:
    quick = () if "--bands" in more else ("--bands", "13")
    given = ("evaluate", pairs, "--checkpoint", checkpoint, "--output", output, "--workers", "1", *quick, *more)
    return [str(argument) for argument in given]


@pytest.fixture(scope="module")
def evaluated(pairs: Path, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Folder and JSON document of an evaluation of the split train, with predictions. Read it, never write to it."""
    output = tmp_path_factory.mktemp("evaluated") / "new" / "out"
    told = io.StringIO()
    more = ("--split", "train", "--predictions", output / "predictions", "--json", "--quiet")
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(told):
        patch.setattr("pipeline.images.s2cloudless", bright_is_cloud)
        assert main(command(pairs, checkpoint, output, *more)) == 0
    return output, json.loads(told.getvalue())


def report_of(output: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((output / "report.json").read_text())
    return content


def timeless(value: Any) -> Any:
    """A report without time stamps and seconds."""
    if isinstance(value, dict):
        return {key: timeless(item) for key, item in value.items() if key not in ("created", "seconds", "stages")}
    return [timeless(item) for item in value] if isinstance(value, list) else value


def test_a_report_is_left_that_follows_its_schema(evaluated: tuple[Path, dict[str, Any]], checkpoint: Path) -> None:
    output, told = evaluated
    report = report_of(output)
    jsonschema.validate(report, schema())
    assert report["checkpoint"]["digest"] == load_checkpoint(checkpoint).digest == told["checkpoint"]["digest"]
    assert (report["split"], report["chips"]["rows"], report["chips"]["used"]) == ("train", 2, 2)
    assert told["chips"] == report["chips"]
    assert told["report"] == str(output / "report.json")
    assert told["page"] == str(output / "report.html")
    page = (output / "report.html").read_text()
    assert report["checkpoint"]["digest"][:12] in page
    for image in report["images"]:
        for picture in image["pictures"].values():
            assert (output / picture).is_file()
    names = {path.name for path in output.iterdir()}
    assert names == {"report.json", "report.html", "pictures", "predictions"}


def test_what_is_told_is_what_the_report_says(evaluated: tuple[Path, dict[str, Any]]) -> None:
    output, told = evaluated
    rows = report_of(output)["rows"]
    assert {score["region"] for score in told["scores"]} == {"all", "cloudy"}
    assert {score["method"] for score in told["scores"]} >= {"made", "identity", "mean fill"}
    for score in told["scores"]:
        (row,) = (
            row
            for row in rows
            if all(row[name] == score[name] for name in ("protocol", "bands", "region", "method"))
            and (row["cover"], row["sky"], row["ground"]) == ("any", "any", "any")
        )
        assert (row["mean"], row["low"], row["images"]) == (score["mean"], score["low"], score["images"])


def test_a_prediction_scored_by_other_tools_gets_the_figures_of_the_report(
    evaluated: tuple[Path, dict[str, Any]], pairs: Path
) -> None:
    output, told = evaluated
    assert told["predictions"] == {"folder": str(output / "predictions"), "files": 2, "others": 0}
    table = PairTable.read(pairs).frame.set_index("id")
    images = {image["row"]: image for image in report_of(output)["images"] if image["protocol"] == "pair"}
    files = sorted((output / "predictions").iterdir())
    assert [path.name for path in files] == [f"{name}.tif" for name in sorted(images)]
    for path in files:
        with rasterio.open(path) as file, rasterio.open(table.loc[path.stem, "clear_href"]) as source:
            assert (file.crs, file.transform) == (source.crs, source.transform)
            given, truth = file.read(), source.read() / 1e4
            assert (given != file.nodata).all()
        prediction = given / 1e4
        said = images[path.stem]["scores"]["made"]["all"]
        # What is written is within half a DN of what was scored; the report rounds to six digits.
        bound = 0.5e-4 + 1e-6
        rmse = float(np.sqrt(np.mean((prediction - truth) ** 2)))
        assert abs(rmse - said["rmse"]) <= bound
        assert abs(np.abs(prediction - truth).mean() - said["mae"]) <= bound
        assert -20 * np.log10(said["rmse"] + bound) <= -20 * np.log10(rmse) <= -20 * np.log10(said["rmse"] - bound)
        options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1}
        maps = [
            structural_similarity(one, other, full=True, **options)[1][5:-5, 5:-5]  # type: ignore[no-untyped-call]
            for one, other in zip(prediction, truth, strict=True)
        ]
        # An image within d of another changes each of SSIM's two factors, both at most 1, by at most d * sqrt(2 / C):
        # numerator and denominator by 2 d a and 2 d b, over a^2 + b^2 + C, where (a + b) / (a^2 + b^2 + C) <= 1 / sqrt(2 C).
        moved = 0.5e-4 * (np.sqrt(2 / 1e-4) + np.sqrt(2 / 9e-4))
        assert abs(float(np.mean(maps)) - said["ssim_valid"]) <= moved + 1e-6


def test_pixels_that_are_not_masked_leave_as_they_came(evaluated: tuple[Path, dict[str, Any]], pairs: Path) -> None:
    output, _ = evaluated
    for name, cloudy in PairTable.read(pairs).frame.set_index("id")["cloudy_href"].items():
        path = output / "predictions" / f"{name}.tif"
        if path.is_file():
            with rasterio.open(path) as file, rasterio.open(cloudy) as source:
                same = (file.read() == source.read()).all(0)
            # The cloud covers rows 0 to 25, grown by 100 m.
            assert same[36:].all()
            assert not same[:20].any()


def test_the_same_command_again_gives_the_same_report_and_predictions(
    evaluated: tuple[Path, dict[str, Any]], pairs: Path, checkpoint: Path, tmp_path: Path, decloud: Decloud
) -> None:
    output, _ = evaluated
    again = tmp_path / "again"
    more = ("--split", "train", "--predictions", again / "predictions", "--quiet", "--workers", "2")
    assert decloud(*command(pairs, checkpoint, again, *more)).status == 0
    assert timeless(report_of(again)) == timeless(report_of(output))
    for path in (output / "predictions").iterdir():
        assert path.read_bytes() == (again / "predictions" / path.name).read_bytes()


def test_a_table_for_people_bounds_and_what_was_left_out(
    pairs: Path, checkpoint: Path, tmp_path: Path, decloud: Decloud
) -> None:
    table = PairTable.read(pairs)
    rows = table.frame.to_dict("records")
    rows[0] |= {"quality": "snow", "reason": "90% of the clear side is snow"}
    gone = tmp_path / "gone.tif"
    rows[1] |= {"cloudy_href": str(gone)}
    PairTable.from_rows(rows, layout="sen12mscr").write(tmp_path / "pairs.parquet")
    (tmp_path / "predictions").mkdir()
    (tmp_path / "predictions" / "of_yore.tif").write_text("of an earlier run")
    bounds = ("--fail-below", "psnr=1", "--fail-below", "seed.psnr=1", "--fail-above", "pair.cloudy.rmse=1e-9")
    more = ("--split", "all", "--predictions", tmp_path / "predictions", *bounds)
    ended = decloud(*command(tmp_path / "pairs.parquet", checkpoint, tmp_path / "out", *more))
    assert ended.status == 1
    missed = [line for line in ended.err.splitlines() if line.startswith("error: ")]
    assert len(missed) == 3
    assert missed[2].startswith("error: 1 of 3 rows could not be read")
    assert missed[0] == "error: --fail-below seed.all.psnr=1: no image was scored by that protocol"
    assert missed[1].startswith("error: --fail-above pair.cloudy.rmse=1e-09: rmse of pair, cloudy pixels is ")
    assert missed[1].endswith("asked was 1e-09 (mean of 1 image, bands 13)")
    out = " ".join(ended.out.split())
    assert "RMSE under cloud pair synthetic" in out
    for method in ("made", "identity", "mean fill"):
        assert f" {method} 0." in out
    assert "made, pair, all pixels, bands 13: PSNR " in out
    assert "(1 image of 1 group)" in out
    assert "left out by the quality gate: snow 1" in out
    assert f"left out {rows[1]['id']}: {gone}: moved or deleted since" in out
    assert "1 of 3 rows of the split all used" in out
    assert f"predictions {tmp_path / 'predictions'} (1 files, beside 1 of other runs)" in out
    assert ended.out.splitlines()[-1] == f"html        {tmp_path / 'out' / 'report.html'}"
    left_out = {entry["id"]: entry["reason"] for entry in report_of(tmp_path / "out")["chips"]["left_out"]}
    assert left_out[rows[0]["id"]].startswith("snow: ")
    assert str(gone) in left_out[rows[1]["id"]]
    # Plain lines where there is no terminal.
    assert "[1/1] pairs: evaluate" in ended.err
    assert "[1/1] pairs: 1 of 3 rows used" in ended.err


def test_a_bound_that_is_reached_is_status_0_and_in_the_document(
    pairs: Path, checkpoint: Path, tmp_path: Path, decloud: Decloud
) -> None:
    more = ("--split", "val", "--fail-below", "psnr=1", "--fail-above", "sam=179", "--json", "--quiet")
    ended = decloud(*command(pairs, checkpoint, tmp_path / "out", *more))
    assert (ended.status, ended.err) == (0, "")
    assert [(bound["metric"], bound["reached"]) for bound in ended.document["bounds"]] == [
        ("psnr", True),
        ("sam", True),
    ]
    (row,) = (
        row
        for row in report_of(tmp_path / "out")["rows"]
        if (row["protocol"], row["region"], row["method"]) == ("pair", "all", "made")
        and (row["cover"], row["sky"], row["ground"]) == ("any",) * 3
    )
    assert ended.document["bounds"][0]["found"] == row["mean"]["psnr"]


def test_checkpoints_are_compared_in_one_table_and_splits_can_be_given_anew(
    pairs: Path, checkpoint: Path, tmp_path: Path, decloud: Decloud
) -> None:
    other = save_checkpoint(tmp_path / "other" / "made.safetensors", lively(SPEC, seed=1), {})
    (tmp_path / "splits.yaml").write_text('{ROIs1158_spring_0: test, "*": train}')
    more = ("--compare", other, "--splits", tmp_path / "splits.yaml", "--json", "--quiet")
    ended = decloud(*command(pairs, checkpoint, tmp_path / "out", *more))
    assert ended.status == 0, ended.err
    report = report_of(tmp_path / "out")
    assert (report["split"], report["chips"]["rows"]) == ("test", 1)
    assert report["splits_from"] == str(tmp_path / "splits.yaml")
    methods = {score["method"] for score in ended.document["scores"]}
    assert {"made", f"made {load_checkpoint(other).digest[:8]}"} <= methods


def test_input_that_cannot_be_used_is_one_line_and_leaves_nothing(
    pairs: Path, checkpoint: Path, tmp_path: Path, decloud: Decloud
) -> None:
    (tmp_path / "text.parquet").write_text("no parquet")
    lacking = tmp_path / "lacking.safetensors"
    shutil.copyfile(checkpoint, lacking)
    card = json.loads(checkpoint.with_suffix(".json").read_text())
    card["spec"]["bands"] = ["B02", "B03", "B04", "B08"]
    lacking.with_suffix(".json").write_text(json.dumps(card))
    rows = PairTable.read(pairs).frame.to_dict("records")
    moved = [row | {"cloudy_href": str(tmp_path / "moved.tif"), "split": "test"} for row in rows]
    PairTable.from_rows(moved, layout="sen12mscr").write(tmp_path / "moved.parquet")
    single = [row | {"cloudy_href": None, "role": "clear", "quality": "nodata", "reason": "half of it"} for row in rows]
    PairTable.from_rows(single, layout="sen12mscr").write(tmp_path / "single.parquet")
    (tmp_path / "empty").mkdir()
    out = tmp_path / "out"
    cases: list[tuple[list[str], str]] = [
        (
            command(pairs, tmp_path / "gone.safetensors", out),
            "gone.safetensors: no such file; packaged ones: default, unguided",
        ),
        (command(pairs, lacking, out), "lacking.safetensors: made for the bands B02 B03 B04 B08"),
        (command(pairs, checkpoint, out, "--compare", tmp_path / "gone.safetensors"), "gone.safetensors: no such file"),
        (command(pairs, checkpoint, out, "--compare", checkpoint), "the same weights are given twice"),
        (command(tmp_path / "gone.parquet", checkpoint, out), "gone.parquet: no such pair table"),
        (command(tmp_path / "text.parquet", checkpoint, out), "text.parquet: is no GeoParquet file"),
        (command(pairs, checkpoint, out), "no row in the split 'test'; there are: train 2, val 1"),
        (command(tmp_path / "moved.parquet", checkpoint, out), "moved.tif: moved or deleted since"),
        (command(tmp_path / "single.parquet", checkpoint, out, "--split", "all"), "can be used: nodata 3"),
        (command(pairs, checkpoint, out, "--splits", tmp_path / "gone.yaml"), "gone.yaml: cannot be read"),
        (command(pairs, checkpoint, out, "--device", "cuda:99"), "cuda:99"),
        (command(pairs, checkpoint, out, "--fail-below", "pnsr=27"), "'pnsr' is no metric: did you mean psnr?"),
        (command(pairs, checkpoint, out, "--fail-below", "rmse=0.06"), "write --fail-above rmse=0.06"),
        (command(pairs, checkpoint, out, "--limit", "0"), "--limit 0"),
        (command(pairs, checkpoint, out, "--scenes", "earth-search"), "--scenes earth-search: has no end"),
        (command(pairs, checkpoint, out, "--scenes", tmp_path / "empty"), "empty"),
        (command(pairs, checkpoint, tmp_path / "text.parquet"), "text.parquet is a file; name a folder"),
        (command(pairs, checkpoint, out, "--predictions", tmp_path / "text.parquet"), "--predictions "),
    ]
    there = sorted(tmp_path.rglob("*"))
    for arguments, said in cases:
        ended = decloud(*arguments, "--quiet")
        assert ended.status == 2, (arguments, ended.err)
        assert said in ended.error, arguments
        assert ended.out == ""
        assert sorted(tmp_path.rglob("*")) == there, arguments


def test_one_evaluation_at_a_time_in_a_folder(pairs: Path, checkpoint: Path, tmp_path: Path, decloud: Decloud) -> None:
    with locked(tmp_path / "out" / "out.lock"):
        ended = decloud(*command(pairs, checkpoint, tmp_path / "out", "--quiet"))
    assert ended.status == 2
    assert "out: another run is working on it" in ended.error


@pytest.mark.parametrize("folder", ["out", "predictions"])
def test_a_full_disk_is_one_line_and_leaves_no_half_report(
    folder: str, pairs: Path, checkpoint: Path, tmp_path: Path, decloud: Decloud
) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    # The report is larger than a prediction, and so is held back alone by the larger limit.
    limit = {"predictions": 8_192, "out": 90_000}[folder]
    more = ("--split", "val", "--quiet", *(("--predictions", tmp_path / folder) if folder == "predictions" else ()))
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
        ended = decloud(*command(pairs, checkpoint, tmp_path / "out", *more))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert ended.status == 1
    assert "no space left on the disk" in ended.error
    assert f"--{'predictions' if folder == 'predictions' else 'output'}" in ended.error
    assert not (tmp_path / "out" / "report.json").exists()
    assert not (tmp_path / "out" / "report.html").exists()
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".")]


def test_ctrl_c_leaves_no_half_report(pairs: Path, checkpoint: Path, tmp_path: Path) -> None:
    code = """
import sys, pipeline.images
from tests.pipeline.made_chips import bright_is_cloud
pipeline.images.s2cloudless = bright_is_cloud
from flows.cli import main
sys.exit(main(sys.argv[1:]))
"""
    output = tmp_path / "out"
    with subprocess.Popen(
        [sys.executable, "-c", code, *command(pairs, checkpoint, output, "--split", "all")],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:  # fmt: skip
        assert process.stderr is not None
        for line in process.stderr:
            if "pairs: evaluate" in line:
                break
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=200)
    assert process.returncode == 130, err
    assert out == ""
    assert f"interrupted: there is no report in {output}; the same command begins again" in err
    assert "Traceback" not in err
    assert not output.exists()


@pytest.mark.parametrize("earlier", [True, False])
def test_ctrl_c_between_the_steps_keeps_the_report_of_an_earlier_run(
    earlier: bool, pairs: Path, checkpoint: Path, tmp_path: Path, decloud: Decloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out"
    if earlier:
        output.mkdir()
        (output / "report.json").write_text("an earlier report")

    def pressed(*_: Any, **__: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr("flows.evaluating.score", pressed)
    ended = decloud(*command(pairs, checkpoint, output, "--split", "val", "--quiet"))
    assert ended.status == 130
    kept = f"the report in {output} is that of an earlier run" if earlier else f"there is no report in {output}"
    assert ended.err.splitlines()[-1] == f"interrupted: {kept}; the same command begins again"
    assert [path.name for path in tmp_path.rglob("*.*")] == (["report.json"] if earlier else [])


def test_whole_scenes_are_tried_and_told(
    pairs: Path, checkpoint: Path, tmp_path: Path, decloud: Decloud, shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pipeline.trial

    asked: list[dict[str, Any]] = []

    class Result:
        """As much of a `TrialResult` as is reported."""

        def __init__(self, trial: Any) -> None:
            self.trial, self.pictures = trial, {"input": np.zeros((8, 8, 3), np.uint8)}

        def document(self) -> dict[str, Any]:
            rows = [
                {"region": region, "method": method, "images": 1, "mean": {"rmse": value}}
                for region, method, value in (
                    ("cloudy", "made", 0.02),
                    ("all", "made", 0.01),
                    ("cloudy", "identity", 0.3),
                )
            ]
            return {
                "id": self.trial.id, "truth": self.trial.truth.id, "clouds_of": self.trial.donor.id, "cover": 0.4,
                "bands": ["B02"], "rows": rows, "seconds": 1.0, "pictures": {},
            }  # fmt: skip

    def run(trial: Any, folder: Path, settings: Any, **more: Any) -> Result:
        asked.append({"folder": folder, "checkpoint": settings.checkpoint, **more})
        more["progress"]("clouds", 1, 1)
        return Result(trial)

    monkeypatch.setattr(pipeline.trial, "run_trial", run)
    scenes = shared_data / "stac" / "earth-search"
    more = ("--split", "val", "--scenes", scenes, "--trials", "2")
    ended = decloud(*command(pairs, checkpoint, tmp_path / "out", *more))
    assert ended.status == 0, ended.err
    assert [call["folder"] for call in asked] == [tmp_path / "out" / "scenes"] * 2
    assert {call["checkpoint"] for call in asked} == {str(checkpoint)}
    found = report_of(tmp_path / "out")["scenes"]
    assert len({scene["id"] for scene in found}) == 2
    for scene in found:
        assert f"scene {scene['id']}, RMSE under cloud: made 0.0200, identity 0.3000" in ended.out
        assert (tmp_path / "out" / scene["pictures"]["input"]).is_file()
    assert "[2/2] scenes: 2/2 clouds" in ended.err
    assert "[2/2] scenes: 2 declouded" in ended.err


def test_many_that_were_left_out_are_listed_in_part() -> None:
    entries = [{"id": f"p{number}", "reason": f"file {number}: truncated"} for number in range(LISTED + 3)]
    lines = list(left_out_lines([*entries, {"id": "q", "reason": "changed: too much"}]))
    assert lines[0] == "left out by the quality gate: changed 1"
    assert lines[1] == "left out p0: file 0: truncated"
    assert lines[-1] == "and 3 more, in the report"
    assert len(lines) == LISTED + 2
    assert list(left_out_lines([])) == []


def test_neither_prefect_nor_torch_is_imported_without_need(pairs: Path, tmp_path: Path) -> None:
    code = f"""
import sys
from flows.cli import main
status = main({["evaluate", str(pairs), "--output", str(tmp_path / "out"), "--fail-below", "x=1"]!r})
print("ENDED", status, [name for name in ("prefect", "torch", "geopandas") if name in sys.modules])
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "ENDED 2 []" in told.stdout


def test_ground_on_which_a_checkpoint_was_trained_is_told(pairs: Path, tmp_path: Path, decloud: Decloud) -> None:
    frame = PairTable.read(pairs).frame
    groups = sorted(set(frame["group"][frame["split"] == "train"]))
    card = {
        "training": {"data": f"train: 9 clear dates of {', '.join((*groups, 'others'))}; val: 1 clear dates of more"}
    }
    leaky = save_checkpoint(tmp_path / "leaky.safetensors", lively(SPEC), card)
    ended = decloud(*command(pairs, leaky, tmp_path / "out", "--split", "train"))
    assert ended.status == 0
    line = f"leaky was trained on {', '.join(groups)}: scores there say nothing of ground that it has not seen"
    assert f"warning: {line}" in ended.out.splitlines()
    report = report_of(tmp_path / "out")
    jsonschema.validate(report, schema())
    assert report["checkpoint"]["trained_on"] == groups
    assert line in (tmp_path / "out" / "report.html").read_text()
