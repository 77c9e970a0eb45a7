"""benchmarks/model_card: every figure of the card is one of its files, and files that do not belong together are refused."""

from __future__ import annotations

import copy
import doctest
import hashlib
import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import yaml
from PIL import Image

from pipeline.baselines import BASELINES
from pipeline.errors import InvalidSettings
from pipeline.report import write_report
from srgan.spec import SIZES
from tests.pipeline.made_report import HOSTILE, METHODS, made_document

ROOT = Path(__file__).resolve().parents[1]
# Benchmarks are no part of what is installed; they are run from the repository's root.
sys.path.append(str(ROOT))

from benchmarks.model_card import curves, inputs, tables  # noqa: E402
from benchmarks.model_card.__main__ import main  # noqa: E402
from benchmarks.model_card.gallery import KINDS, RANKS, Held, choose, encoded  # noqa: E402
from benchmarks.model_card.inputs import Report, command_settings  # noqa: E402
from benchmarks.model_card.words import read_words  # noqa: E402

WEIGHTS = b"no weights, only bytes"
PARTS = ("input", "prediction", "truth", "error")


class Files:
    """A set of made files that fit each other, and the command that reads them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.document = folder, made()
        self.reported = ""
        self.card = made_card()
        self.words = yaml.safe_load((ROOT / "benchmarks" / "model_card.yaml").read_text(encoding="utf-8"))
        self.words |= {"never_trained": ["33TWL"], "commands": ["decloud train p.parquet --set rate=0.0007"]}
        self.words["failures"] = [{"title": "Cut", "text": "Why.", "image": self.document["images"][1]["id"]}]
        self.log = [
            {"step": 0, "validation/rmse": 0.03, "validation/rmse_cloudy": 0.04, "validation/psnr": 30.0},
            {"step": 10, "train/total": 0.5, "train/reconstruction": 0.1, "train/norm": 3.0},
            {"step": 20, "train/total": None, "validation/rmse": 0.02, "validation/rmse_cloudy": 0.025},
        ]

    def write(self) -> None:
        (self.folder / "default.safetensors").write_bytes(WEIGHTS)
        (self.folder / "default.json").write_text(json.dumps(self.card))
        (self.folder / "words.yaml").write_text(yaml.safe_dump(self.words))
        (self.folder / "splits.yaml").write_text('{ROIs1158_spring_0: test, 33TWL: other, "*": train}')
        (self.folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in self.log))
        if (content := json.dumps(self.document)) == self.reported:
            return
        self.reported = content
        pictures = {image["id"]: picture(number) for number, image in enumerate(self.document["images"])}
        pictures |= {scene["id"]: picture(99) for scene in self.document["scenes"]}
        write_report(self.document, pictures, self.folder / "report")

    def run(self, *more: str) -> int:
        names = ("checkpoint", "default.safetensors"), ("log", "log.jsonl"), ("words", "words.yaml")
        options = [f"--{name}={self.folder / file}" for name, file in (*names, ("splits", "splits.yaml"))]
        report, output = self.folder / "report", self.folder / "docs" / "MODEL_CARD.md"
        return main([*options, f"--report={report}", f"--output={output}", *more])

    def caption_all(self) -> None:
        """Fill in the draft."""
        assert self.run("--draft", str(self.folder / "draft.yaml")) == 0
        drafted = yaml.safe_load((self.folder / "draft.yaml").read_text())["captions"]
        for kind, ranks in drafted.items():
            for rank, caption in ranks.items():
                caption["text"] = f"Seen: {kind} {rank}."
        self.words["captions"] = drafted
        self.write()

    @property
    def text(self) -> str:
        return (self.folder / "docs" / "MODEL_CARD.md").read_text(encoding="utf-8")


def made() -> dict[str, Any]:
    """A document under the band sets' real names, small, with all kinds of images but one."""
    document = made_document(20)
    short = {"13 bands": "13", "4 bands": "4"}
    for entry in (*document["rows"], *document["per_band"], *document["images"]):
        entry["bands"] = short[entry["bands"]]
    for image in document["images"]:
        image["shadow"] = 0.1
        image["ground"] = "vegetation" if image["ground"] == "snow" else image["ground"]
    document["rows"] = [row for row in document["rows"] if row["protocol"] != "pair+dates"]
    document["checkpoint"]["digest"] = hashlib.sha256(WEIGHTS).hexdigest()
    document["per_band"] = []
    document["settings"]["cover_classes"] = ["thin", "to 30 %", "30-70 %", "over 70 %", "full"]
    return document


def made_card() -> dict[str, Any]:
    return {
        "spec": SIZES["tiny"]("error_feedback").model_dump(mode="json"),
        "sha256": hashlib.sha256(WEIGHTS).hexdigest(),
        "parameters": 1_234_567,
        "margin": 77,
        "training": {
            "data": "train: 12 clear dates of ROIs1868_summer_31, 29RKH; val: 2 clear dates of ROIs1868_summer_100",
            "split_hash": "ef" * 32,
            "settings": {"rate": 0.0007, "losses": {"style": 0.0}, "start": "/somewhere/private/best.safetensors"},
            "step": 500,
            "steps": 600,
        },
        "calibration": {"strength of the correction": {"without another date, brighter": 0.625}},
        "scores": {"validation": {"rmse_cloudy": 0.0251}},
    }


def picture(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: np.full((24, 32, 3), rng.integers(0, 255, 3), np.uint8) for name in PARTS}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Made once: files with a caption for every place."""
    made_files = Files(tmp_path_factory.mktemp("template"))
    made_files.write()
    made_files.caption_all()
    return made_files


@pytest.fixture
def files(template: Files, tmp_path: Path) -> Files:
    """A copy that a test may spoil."""
    own = copy.deepcopy(template)
    own.folder = tmp_path / "own"
    shutil.copytree(template.folder, own.folder)
    return own


def test_draft_then_card_holds_the_figures_of_its_files(files: Files) -> None:
    assert files.run() == 0
    text, card = files.text, files.folder / "docs" / "card"
    for known in (files.card["sha256"], "1,234,567", "77 pixels", "0.62", "500 of 600", "ef" * 32, "cd" * 32):
        assert known in text
    rows = {
        (row["protocol"], row["bands"], row["region"], row["method"]): row
        for row in files.document["rows"]
        if (row["cover"], row["ground"]) == ("any", "any")
    }
    for method in METHODS:
        row = rows["pair", "13", "cloudy", method]
        assert f"{row['mean']['rmse']:.4f} ({row['low']['rmse']:.4f} to {row['high']['rmse']:.4f})" in text
    assert f"| {rows['seed', '4', 'all', 'default']['mean']['psnr']:.2f} (" in text
    assert "| 30.14 | 0.809 | 0.809 | 0.799 | 0.064 | 17.8 |" in text
    simple = min(rows["pair", "13", "cloudy", name]["mean"]["rmse"] for name in BASELINES if name in METHODS)
    ratio = rows["pair", "13", "cloudy", "default"]["mean"]["rmse"] / simple
    assert f"The RMSE of the model is {ratio:.2f} times that of the best simple fill" in text
    # All pictures that the card shows are there, and no others.
    shown = set(re.findall(r"\(card/([^)]+)\)", text))
    assert shown == {path.name for path in card.iterdir()}
    assert {f"water-{rank}.webp" for rank in RANKS} <= shown
    assert "failure-1.webp" in shown
    assert sum(path.stat().st_size for path in card.iterdir()) < 1_500_000
    with Image.open(card / "water-best.webp") as strip:
        assert strip.size == (4 * 192 + 3 * 4, 144)
    assert "Seen: water best." in text


def test_what_was_not_measured_says_so(files: Files) -> None:
    assert files.run() == 0
    assert "**real clouds, up to two other dates**: not measured" in files.text
    assert "| real clouds, no other date | 12 | not measured |" in files.text
    assert "Mostly snow below the clouds. No held-out image is of this kind: not measured." in files.text
    assert "| least-cloudy composite | not measured |" not in files.text.split("**made clouds, no other date**")[1]


def test_text_of_reports_cannot_break_out(files: Files) -> None:
    assert files.run() == 0
    assert HOSTILE not in files.text
    assert "<script" not in files.text
    assert "/somewhere" not in files.text


def test_the_same_files_make_the_same_card(files: Files) -> None:
    assert files.run() == 0
    first = {path.name: path.read_bytes() for path in (files.folder / "docs").rglob("*") if path.is_file()}
    (files.folder / "docs" / "card" / "of-an-earlier-card.webp").write_bytes(b"old")
    assert files.run() == 0
    assert {path.name: path.read_bytes() for path in (files.folder / "docs").rglob("*") if path.is_file()} == first


def test_curves_are_an_svg_of_every_log(files: Files) -> None:
    log = files.folder / "log.jsonl"
    assert files.run("--log", f"<un>guided={log}", "--draft", str(files.folder / "d.yaml")) == 0
    tree = ET.fromstring((files.folder / "docs" / "card" / "curves.svg").read_text())  # noqa: S314 - made here
    texts = {element.text for element in tree.iter("{http://www.w3.org/2000/svg}text")}
    assert {"RMSE of the validation", "Losses of the training", "reconstruction"} <= texts
    assert {"this model, cloudy pixels", "<un>guided, cloudy pixels"} <= texts
    assert "norm" not in texts


def no_caption(files: Files) -> None:
    del files.words["captions"]["water"]["best"]


def other_image(files: Files) -> None:
    files.words["captions"]["water"]["best"]["image"] = "another"


def no_place(files: Files) -> None:
    files.words["captions"]["snow"] = {"best": {"image": "a", "text": "b"}}


def other_digest(files: Files) -> None:
    files.document["checkpoint"]["digest"] = "0" * 64


def leak(files: Files) -> None:
    files.card["training"]["data"] = "train: 1 clear dates of ROIs1158_spring_1"


def acceptance(files: Files) -> None:
    files.card["training"]["data"] = "train: 1 clear dates of 33TWL"


def other_command(files: Files) -> None:
    files.card["training"]["settings"]["rate"] = 0.1


def other_weights(files: Files) -> None:
    files.card["sha256"] = "1" * 64


def failure_of_nothing(files: Files) -> None:
    files.words["failures"][0]["image"] = "gone"


def bad_log(files: Files) -> None:
    files.log = [{"validation/rmse": 0.1}]


def bad_words(files: Files) -> None:
    del files.words["intended_use"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (no_caption, "water, best: no caption"),
        (other_image, "its caption is of another"),
        (no_place, "snow, best: a caption, but no image"),
        (other_digest, "of the weights 000000000000"),
        (leak, "scores ROIs1158_spring_1, which the model was trained on"),
        (acceptance, "33TWL: said never to be trained on"),
        (other_command, "rate=0.0007, but the card says 0.1"),
        (other_weights, "of other weights"),
        (failure_of_nothing, "no report has an image or scene"),
        (bad_log, "no log of a training"),
        (bad_words, "intended_use"),
    ],
)
def test_files_that_do_not_fit_are_refused(
    files: Files, change: Callable[[Files], None], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    change(files)
    files.write()
    assert refusal(files, capsys).count(said) == 1


def test_a_report_that_is_none_or_lacks_a_picture_is_refused(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    report = files.folder / "report" / "report.json"
    listed = {image["id"]: image for image in json.loads(report.read_text())["images"]}
    shown = listed[files.words["captions"]["water"]["best"]["image"]]
    (report.parent / shown["pictures"]["truth"]).unlink()
    assert "no picture 'truth'" in refusal(files, capsys)
    report.write_text('{"kind": "declouder evaluation", "schema_version": 2}')
    assert "no evaluation of version 1" in refusal(files, capsys)


def refusal(files: Files, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that it is refused with; nothing is written."""
    capsys.readouterr()
    assert files.run() == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert not (files.folder / "docs" / "MODEL_CARD.md").exists()
    return error


def image(name: str, rmse: float, protocol: str = "pair") -> Held:
    entry = {
        "id": name,
        "protocol": protocol,
        "cover_class": "thin",
        "scores": {"default": {"cloudy": {"rmse": rmse}}},
    }
    document = {"rows": [], "compared": [], "checkpoint": {"name": "default"}, "images": [entry]}
    return Held(Report(Path(), document), entry)


def test_places_show_different_inputs_of_real_clouds() -> None:
    images = [image(f"p{n}.pair", 0.01 * n) for n in (1, 2, 3, 4, 5)]
    images += [image("p1.pair-dates", 0.001, "pair+dates"), image("p9.d0.haze", 0.9, "synthetic")]
    shown, said = choose("thin haze", images)
    assert {one.rank: one.held.id for one in shown} == {
        "best": "p1.pair-dates",
        "median": "p2.pair",
        "worst": "p5.pair",
    }
    assert said == "6 held-out images of 5 inputs."


def test_fewer_images_than_places_is_said() -> None:
    shown, said = choose("thin haze", [image("a.pair", 0.1), image("b.d0.haze", 0.2, "synthetic")])
    assert [one.rank for one in shown] == ["best", "worst"]
    assert "of which 1 has real clouds" in said
    assert said.endswith("fewer than 3: no median.")
    shown, said = choose("thin haze", [image("a.pair", 0.1), image("a.pair-dates", 0.2, "pair+dates")])
    assert [one.held.id for one in shown] == ["a.pair"]
    assert said.endswith("no median and no worst.")
    assert choose("snow", []) == ([], "No held-out image is of this kind: not measured.")


def test_strips_keep_to_their_budget() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (96, 384, 3), np.uint8))
    strips = {"a": noise, "b": noise}
    whole = sum(map(len, encoded(strips).values()))
    assert sum(map(len, encoded(strips, whole - 1).values())) < whole
    with pytest.raises(InvalidSettings, match="2 strips do not fit"):
        encoded(strips, 10)


def test_settings_of_a_command() -> None:
    line = "decloud train p.parquet --set losses.style=0 \\\n --set rate=1e-4 --seed 3 --set model=tiny --set widths=[8,16]"
    assert command_settings(line) == {"losses.style": 0, "rate": 1e-4, "model": "tiny", "widths": [8, 16]}


def test_words_of_the_repository_can_be_read() -> None:
    words = read_words(ROOT / "benchmarks" / "model_card.yaml")
    assert set(words.captions) <= set(KINDS)
    assert {rank for ranks in words.captions.values() for rank in ranks} <= set(RANKS)
    said = " ".join(words.attribution)
    assert "modified Copernicus Sentinel data 2017-2023" in said
    assert "SEN12MS-CR-TS by Ebel, Meraner, Schmitt and Zhu" in said


@pytest.mark.parametrize("module", [curves, inputs, tables], ids=lambda module: module.__name__)
def test_examples_of_the_docstrings(module: ModuleType) -> None:
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0
