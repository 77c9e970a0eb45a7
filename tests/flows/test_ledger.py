"""Lines of a ledger that nobody of us wrote, or that a disk has damaged, cost none of the others."""

from __future__ import annotations

import json

import pytest

from flows.ledger import Ledger
from flows.summary import RunSummary, SceneSummary


@pytest.mark.parametrize(
    "wrong",
    [
        {"pid": 1099511627776}, {"pid": "x"}, {"pid": None}, {"pid": -1}, {"began": "x"}, {"host": None}, {"time": 5}, {"window": ["a"]},
        {"state": ["running"]}, {"reason": None}, {"run": {}}, {"problems": [1]}, {"scenes": [{"scene": 1, "state": "done"}]},
    ],
    ids=str,
)  # fmt: skip
def test_a_line_with_a_value_of_another_kind_is_passed_over(tmp_path, wrong):
    ledger = Ledger(tmp_path, "0123456789")
    ledger.write("2023-07-01/2023-07-31", "running")
    line = json.loads(ledger.lines.read_text())
    with ledger.lines.open("a") as file:
        file.write(json.dumps(line | wrong) + "\n")
    ledger.write("2023-08-01/2023-08-31", "running")
    found = ledger.latest()
    assert list(found) == ["2023-07-01/2023-07-31", "2023-08-01/2023-08-31"]
    assert not any(line.abandoned for line in found.values())


def test_what_was_written_is_read_again(tmp_path):
    ledger = Ledger(tmp_path, "0123456789")
    scenes = (SceneSummary("S2_A", "a", "done", product=str(tmp_path / "S2_A_0123456789" / "S2_A_0123456789.json")),)
    ledger.write("2023-07-01/2023-07-31", "done", RunSummary("r", str(tmp_path), scenes, ("b: gone",)))
    (line,) = ledger.latest().values()
    assert (line.state, line.problems, line.scenes[0].product) == ("done", ("b: gone",), "S2_A_0123456789")
