from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable, Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from PIL import Image

from pipeline.errors import InvalidSettings, WriteFailed
from pipeline.pictures import PICTURES, encode
from pipeline.report import file_stem, plain, schema, write_report
from tests.pipeline.made_report import HOSTILE, made_document

Change = Callable[[dict[str, Any]], None]


def problems(document: object) -> list[str]:
    return [error.message for error in Draft202012Validator(schema()).iter_errors(document)]


def some_pictures(document: Mapping[str, Any]) -> dict[str, dict[str, np.ndarray]]:
    """One square of its own colour a picture."""
    entries = [*document["images"], *document["scenes"]]
    return {
        entry["id"]: {
            name: np.full((16, 16, 3), 10 * number + 40 * place, np.uint8) for place, name in enumerate(PICTURES)
        }
        for number, entry in enumerate(entries[:2])
    }


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return made_document(8)


def test_the_schema_is_one_and_the_report_follows_it(tmp_path: Path, document: dict[str, Any]) -> None:
    Draft202012Validator.check_schema(schema())
    before = copy.deepcopy(document)
    path, page = write_report(document, some_pictures(document), tmp_path / "new" / "folder")
    assert (path, page) == (tmp_path / "new" / "folder" / "report.json", path.with_name("report.html"))
    written = json.loads(path.read_text(encoding="utf-8"))
    assert problems(written) == []
    assert document == before
    for entry in (*written["images"], *written["scenes"]):
        entry["pictures"] = {}
    assert written == document


def test_pictures_lie_where_the_report_says(tmp_path: Path, document: dict[str, Any]) -> None:
    pictures = some_pictures(document)
    path, _ = write_report(document, pictures, tmp_path)
    written = json.loads(path.read_text(encoding="utf-8"))
    listed = [place for image in written["images"] for place in image["pictures"].values()]
    assert len(listed) == len(set(listed)) == 2 * len(PICTURES)
    assert sorted(listed) == sorted(f"pictures/{file.name}" for file in (tmp_path / "pictures").iterdir())
    first = written["images"][0]
    assert HOSTILE in first["id"]
    for name, place in first["pictures"].items():
        with Image.open(tmp_path / place) as picture:
            colour = np.asarray(picture.convert("RGB"))[8, 8].astype(int)
        assert np.abs(colour - pictures[first["id"]][name][8, 8]).max() <= 3


def test_encoded_pictures_are_taken_as_they_are(tmp_path: Path, document: dict[str, Any]) -> None:
    blob = encode(np.zeros((4, 4), np.uint8))
    path, _ = write_report(document, {document["images"][3]["id"]: {"input": blob}}, tmp_path)
    place = json.loads(path.read_text(encoding="utf-8"))["images"][3]["pictures"]["input"]
    assert (tmp_path / place).read_bytes() == blob


def test_pictures_are_asked_for_one_image_at_a_time(tmp_path: Path, document: dict[str, Any]) -> None:
    class FromDisk(Mapping[str, Mapping[str, bytes]]):
        asked: list[str] = []  # noqa: RUF012

        def __getitem__(self, key: str) -> Mapping[str, bytes]:
            self.asked.append(key)
            return {"input": encode(np.zeros((4, 4), np.uint8))}

        def __iter__(self) -> Iterator[str]:
            return iter(image["id"] for image in document["images"])

        def __len__(self) -> int:
            return len(document["images"])

        def get(self, key: str, default: Any = None) -> Any:
            return self[key] if key in set(self) else default

    write_report(document, FromDisk(), tmp_path)
    assert FromDisk.asked == [image["id"] for image in document["images"]]


def test_scores_that_are_no_numbers_become_null(tmp_path: Path) -> None:
    document = made_document(2)
    document["rows"][0]["mean"].update(rmse=np.float32(0.5), psnr=float("inf"), cc=float("nan"))
    document["images"][0]["cover"] = np.float64(0.25)
    document["seconds"] = -np.inf
    path, _ = write_report(document, {}, tmp_path)
    text = path.read_text(encoding="utf-8")
    written = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert problems(written) == []
    assert written["rows"][0]["mean"]["rmse"] == 0.5
    assert written["rows"][0]["mean"]["psnr"] is written["rows"][0]["mean"]["cc"] is written["seconds"] is None
    assert written["images"][0]["cover"] == 0.25


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda d: d.update(schema_version=2), "1 was expected"),
        (lambda d: d.update(created="yesterday"), "'yesterday' does not match"),
        (lambda d: d["rows"][0].pop("groups"), "'groups' is a required property"),
        (lambda d: d["rows"][0]["mean"].pop("sam"), "'sam' is a required property"),
        (lambda d: d["rows"][0]["mean"].update(sam="low"), "'low' is not of type"),
        (lambda d: d["rows"][0].update(images=-1), "-1 is less than the minimum"),
        (lambda d: d["rows"][0].update(region="sky"), "'sky' is not one of"),
        (lambda d: d["images"][0].update(cover=1.5), "1.5 is greater than the maximum"),
        (lambda d: d["images"][0]["pictures"].update(input="../../x.webp"), "does not match"),
        (lambda d: d["confidence"]["groups"]["VIS"]["reliability"][0].pop("found"), "'found' is a required"),
        (lambda d: d["chips"]["left_out"].append({"id": "p1"}), "'reason' is a required"),
    ],
)
def test_the_schema_finds_what_is_wrong(document: dict[str, Any], change: Change, complaint: str) -> None:
    wrong = copy.deepcopy(document | {name: document[name][:3] for name in ("rows", "per_band", "images")})
    change(wrong)
    (found,) = problems(wrong)
    assert complaint in found


def test_an_evaluation_that_found_nothing_makes_a_report(tmp_path: Path) -> None:
    empty = made_document(0, scenes=0) | {"rows": [], "per_band": [], "confidence": None, "tables": [], "mask": []}
    path, page = write_report(empty, {}, tmp_path)
    assert problems(json.loads(path.read_text(encoding="utf-8"))) == []
    text = page.read_text(encoding="utf-8")
    assert "The checkpoint has no score" in text
    assert "says nothing of its confidence" in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("rows"), "the document has no rows"),
        (lambda d: d.update(schema_version=2), "of version 2, not an evaluation of version 1"),
        (lambda d: d.update(kind="declouder product"), "'declouder product' of version 1, not"),
        (lambda d: d["images"].append(d["images"][0]), "two images or scenes have the id '<script>"),
        (lambda d: d["images"][0].update(id=d["scenes"][0]["id"]), "two images or scenes have the id 'T29RKH"),
        (lambda d: d["settings"].update(seed=object()), "of type object has no place in JSON"),
    ],
)
def test_documents_that_cannot_be_shown_are_refused(tmp_path: Path, change: Change, message: str) -> None:
    wrong = made_document(4)
    change(wrong)
    with pytest.raises(InvalidSettings, match=message):
        write_report(wrong, {}, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_pictures_of_nothing_are_refused(tmp_path: Path, document: dict[str, Any]) -> None:
    with pytest.raises(InvalidSettings, match="pictures of 'p404', which the document does not have"):
        write_report(document, {"p404": {}}, tmp_path)


def test_a_folder_that_is_a_file_is_named(tmp_path: Path, document: dict[str, Any]) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(WriteFailed, match="out"):
        write_report(document, {}, tmp_path / "out")
    assert (tmp_path / "out").read_text() == "mine"


def test_a_report_is_replaced_whole_or_not_at_all(
    tmp_path: Path, document: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = write_report(document, {}, tmp_path)
    before = [path.read_bytes() for path in paths]
    real, calls = os.fsync, iter([None, OSError(28, "No space left on device")])

    def full(handle: int) -> None:
        if (error := next(calls)) is not None:
            raise error
        real(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WriteFailed, match="no space left"):
        write_report(document | {"split": "val"}, {}, tmp_path)
    assert [path.read_bytes() for path in paths] == before
    assert not list(tmp_path.rglob("*.part"))


def test_the_same_evaluation_makes_the_same_bytes(tmp_path: Path, document: dict[str, Any]) -> None:
    pictures = some_pictures(document)
    first, second = (write_report(document, pictures, tmp_path / name) for name in "ab")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_names_that_are_no_text_do_no_harm(tmp_path: Path) -> None:
    document = made_document(3)
    document["images"][1]["id"] = document["images"][1]["chip"] = os.fsdecode(b"caf\xe9.tif") + "\u2028\x00"
    document["tables"][0]["file"] = os.fsdecode(b"paires-\xe9t\xe9.parquet")
    path, page = write_report(
        document, {document["images"][1]["id"]: some_pictures(made_document(1)).popitem()[1]}, tmp_path
    )
    assert json.loads(path.read_text(encoding="utf-8"))["images"][1]["id"] == document["images"][1]["id"]
    assert "paires-" in page.read_text(encoding="utf-8")


def test_file_names_are_plain_and_apart() -> None:
    names = ["a/b", "a_b", "a\\b", "..", ".", "", "é", "x" * 300, "x" * 299 + "y", HOSTILE, "A b", "con\n"]
    stems = [file_stem(name) for name in names]
    assert len(set(stems)) == len(names)
    for stem in stems:
        assert stem == Path(stem).name
        assert stem.isascii()
        assert not stem.startswith(".")
        assert 0 < len(stem) < 150
    assert file_stem("a_b") == "a_b"


def test_plain_values_stay_what_they_are() -> None:
    value = {"a": [1, 2.5, "x", None, True, {"b": []}]}
    assert plain(value) == value
    assert plain({"n": np.array([[1.0, np.nan]]), "p": Path("x") / "y", "b": np.bool_(True)}) == {
        "n": [[1.0, None]],
        "p": os.path.join("x", "y"),  # noqa: PTH118
        "b": True,
    }


def test_pictures_of_several_sizes_read_back(tmp_path: Path, document: dict[str, Any]) -> None:
    shown = {"input": np.zeros((40, 3000, 3), np.uint8), "truth": np.zeros((1, 1), np.uint8)}
    path, _ = write_report(document, {document["scenes"][0]["id"]: shown}, tmp_path)
    places = json.loads(path.read_text(encoding="utf-8"))["scenes"][0]["pictures"]
    sizes = [Image.open(BytesIO((tmp_path / places[name]).read_bytes())).size for name in shown]
    assert sizes == [(1024, 14), (1, 1)]
