"""From runs to tables, documents, drawings and verdicts: with made-up figures that can be checked by eye."""

from __future__ import annotations

import json
from xml.etree import ElementTree as ET

import pytest

from benchmarks.bench.contest import Result
from benchmarks.bench.entry import Verdict
from benchmarks.bench.lines import LINES
from benchmarks.bench.lines.memory import CASES, MemoryLine
from benchmarks.bench.plot import svg
from benchmarks.bench.run import Run, Tally, ratio
from benchmarks.bench.table import markdown, sentence, table


def tally(label: str, *works: float, **other: object) -> Tally:
    return Tally(
        label, tuple(Run(label, number, work=work, wall=work + 1, **other) for number, work in enumerate(works))
    )


def result(**tallies: Tally) -> Result:
    return Result("made", "Made up", "loop", tallies, (Verdict("ours / loop", 1.5, 1.15),))


OURS = tally(
    "decloud", 3.0, 2.0, 9.0, peak=100_000_000, tree_peak=400_000_000, output=7_000_000, changed=0, checked=1000
)
LOOP = tally("a | loop", 2.0, 4.0, 2.5, peak=50_000_000, changed=5, checked=1000)
BROKEN = Tally("broken <one>", (Run("broken", 0, work=1.0), Run("broken", 1, failed="status 1: no module")))


def test_minimum_and_median() -> None:
    assert (OURS.least(lambda run: run.work), OURS.median(lambda run: run.work), OURS.most(lambda run: run.work)) == (
        2,
        3,
        9,
    )
    assert ratio(OURS, LOOP, Tally.least) == 1.0
    assert ratio(OURS, LOOP, Tally.median) == pytest.approx(1.2)


def test_a_contender_with_one_failed_round_has_no_figures() -> None:
    assert BROKEN.failed == "status 1: no module"
    assert BROKEN.median(lambda run: run.work) is None
    assert ratio(OURS, BROKEN, Tally.median) is None
    assert Tally("nobody", ()).failed == "not run"


def test_the_table_has_a_row_for_everyone() -> None:
    lines = table(result(ours=OURS, loop=LOOP, broken=BROKEN)).splitlines()
    assert len(lines) == 5
    cells = [cell.strip() for cell in lines[2].strip("|").split("|")]
    assert cells == ["decloud", "2.00", "3.00", "1", "1.2", "0.00", "0.0", "400", "7", "0"]
    assert lines[3].startswith("| a \\| loop | 2.00 | 2.50 | 1 | 1 |")
    assert lines[3].endswith("| 5 (0.5 %) |")
    assert "failed: status 1: no module" in lines[4]
    assert {line.replace("\\|", "").count("|") for line in lines} == {11}


def test_the_document_says_what_does_not_hold() -> None:
    text = markdown([result(ours=OURS, loop=LOOP)], "a machine", 3)
    assert "a machine. 3 interleaved rounds." in text
    assert "- ours / loop: **1.5** (at most 1.15): DOES NOT HOLD" in text


@pytest.mark.parametrize(
    ("value", "bound", "holds"),
    [(1.0, 1.0, True), (1.01, 1.0, False), (None, 1.0, None), (5.0, None, None), (0, 0, True)],
)
def test_verdicts(value: float | None, bound: float | None, holds: bool | None) -> None:
    verdict = Verdict("it", value, bound)
    assert verdict.holds is holds
    assert ("DOES NOT HOLD" in sentence(verdict)) == (holds is False)


def test_the_json_holds_every_run() -> None:
    document = json.loads(json.dumps(result(ours=OURS, broken=BROKEN).to_json()))
    assert [entry["name"] for entry in document["entries"]] == ["ours", "broken"]
    assert tuple(Run.from_json(run) for run in document["entries"][0]["runs"]) == OURS.runs
    assert document["verdicts"][0]["holds"] is False


def test_the_drawing_has_a_bar_for_each_that_has_figures() -> None:
    root = ET.fromstring(svg([result(ours=OURS, loop=LOOP, broken=BROKEN)]))  # noqa: S314 (our own drawing)
    spaced = "{http://www.w3.org/2000/svg}"
    bars = root.findall(f"{spaced}rect")
    assert len(bars) == 2
    widths = [float(bar.attrib["width"]) for bar in bars]
    assert widths[0] / widths[1] == pytest.approx(3.0 / 2.5, rel=0.01)
    texts = [text.text for text in root.findall(f"{spaced}text")]
    assert "failed" in texts
    assert "broken <one>" in texts
    assert ET.fromstring(svg([])).tag == f"{spaced}svg"  # noqa: S314 (our own drawing)


def test_lines_have_names_of_their_own() -> None:
    names = [line.name for line in LINES]
    assert len(set(names)) == len(names)
    assert all(name.isalnum() for name in names)


def memory_tallies(work: float = 1.0, digest: str = "a", over: int = 0) -> dict[str, Tally]:
    limits = {"1GiB": 2**30, "4GiB": 2**32}
    return {
        case.name: Tally(
            case.name,
            (Run(case.name, 0, work=1.0 if case.half else work, peak=limits[case.limit] + over, digest="a" if case.half else digest),),
        )
        for case in CASES
    }  # fmt: skip


def test_memory_is_held_against_its_limit() -> None:
    assert all(verdict.holds for verdict in MemoryLine().verdicts(memory_tallies(4.0)))
    for tallies, bad in ((memory_tallies(over=301_000_000), 4), (memory_tallies(4.2), 4)):
        verdicts = MemoryLine().verdicts(tallies)
        assert sum(verdict.holds is False for verdict in verdicts) == bad
    tallies = memory_tallies()
    tallies["12-full-4GiB"] = memory_tallies(digest="b")["12-full-4GiB"]
    (differs,) = (verdict for verdict in MemoryLine().verdicts(tallies) if verdict.holds is False)
    assert differs.says.startswith("12 bands, full size")
