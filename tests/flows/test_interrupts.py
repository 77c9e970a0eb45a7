"""Ctrl-C that was swallowed where it came is not lost."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows import execution, interrupts, selection
from pipeline.journal import latest
from pipeline.publish import published_items
from pipeline.simulation.simulate import Simulated
from tests.flows.conftest import Decloud, area_run


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    interrupts.forget()
    yield
    interrupts.forget()


def swallowed() -> None:
    """Ctrl-C in a place that swallows it, as some imports and every destructor do."""
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)
    except KeyboardInterrupt:
        return
    raise AssertionError("no ctrl-C came")


@pytest.mark.parametrize("place", ["search", "first stage", "end of a scene"])
def test_swallowed_ctrl_c_still_ends_the_run(
    place: str, area: Simulated, tmp_path: Path, decloud: Decloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out"
    real_search, real_scene = selection.search, execution.run_scene

    def search(*arguments: object) -> object:
        swallowed()
        return real_search(*arguments)  # type: ignore[arg-type]

    def scene(*arguments: object, **named: object) -> object:
        if place == "first stage":
            swallowed()
        outcome = real_scene(*arguments, **named)  # type: ignore[arg-type]
        if place == "end of a scene":
            swallowed()
        return outcome

    if place == "search":
        monkeypatch.setattr(selection, "search", search)
    else:
        monkeypatch.setattr(execution, "run_scene", scene)
    ended = decloud(*area_run(area, output))
    assert ended.status == 130
    assert f"interrupted: finished blocks are kept in {output}; the same command goes on from there" in ended.err
    assert ended.out == ""
    states = {entry.scene: entry.state for entry in latest(output).values()}
    if place == "first stage":
        assert "interrupted" in states.values()
        assert "running" not in states.values()
    assert len(published_items(output)) == (1 if place == "end of a scene" else 0)
    monkeypatch.undo()
    assert decloud(*area_run(area, output)).status == 0, "the next command line starts afresh"


def test_an_error_that_comes_of_ctrl_c_is_told_as_such(
    area: Simulated, tmp_path: Path, decloud: Decloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        swallowed()
        raise ImportError("half an import")

    monkeypatch.setattr(selection, "search", broken)
    for command in ("run", "plan"):
        ended = decloud(*area_run(area, tmp_path / "out", command=command))
        assert ended.status == 130
        assert "interrupted" in ended.err
        assert "half an import" not in ended.err


def test_threads_finish_what_they_are_at_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    tell = interrupts.checked(lambda stage, *_: told.append(stage))
    tell("restore", 0, 9)
    interrupts.ask()
    with pytest.raises(KeyboardInterrupt):
        tell("restore", 1, 9)

    raised: list[bool] = []

    def work() -> None:
        try:
            tell("tile", 2, 9)
            raised.append(False)
        except KeyboardInterrupt:
            raised.append(True)

    for grace in (60.0, -1.0):
        monkeypatch.setattr(interrupts, "GRACE", grace)
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert raised == [False, True]
    assert told == ["restore", "tile"]
