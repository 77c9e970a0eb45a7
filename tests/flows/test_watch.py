"""How far a run is: rates of the recent past, stages that overlap, terminals of any width, lines elsewhere."""

from __future__ import annotations

import io
import itertools
import logging
import threading
from collections.abc import Callable

import pytest
from rich.console import Console

from flows.bar import Bar
from flows.scene_log import SceneLog
from flows.stages import Run, Stages
from flows.watch import Lines, Silent, rate, watcher


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def steps(tell: Callable[[str, int, int], object], clock: Clock, stage: str, first: int, last: int, total: int, pace: float) -> None:  # fmt: skip
    """Steps `first`..`last` of a stage, one every `pace` seconds."""
    for done in range(first, last + 1):
        clock.now += pace
        tell(stage, done, total)


def test_the_rate_is_that_of_the_recent_past(clock: Clock) -> None:
    stages = Stages(clock)
    stages.tell("restore", 0, 1000)
    steps(stages.tell, clock, "restore", 1, 100, 1000, 1.0)
    assert stages.left() == pytest.approx(900, rel=0.02)
    steps(stages.tell, clock, "restore", 101, 400, 1000, 0.1)
    # Thirty seconds at ten a second: the hundred slow ones are forgotten.
    assert stages.left() == pytest.approx(60, rel=0.05)


def test_where_nothing_moves_the_time_left_grows(clock: Clock) -> None:
    stages = Stages(clock)
    stages.tell("restore", 0, 20)
    steps(stages.tell, clock, "restore", 1, 10, 20, 1.0)
    moving = stages.left()
    clock.now += 60
    still = stages.left()
    assert moving is not None
    assert still is not None
    assert still > 3 * moving


def test_nobody_can_say_before_anything_is_done(clock: Clock) -> None:
    stages = Stages(clock)
    assert stages.current() is None
    stages.tell("restore", 0, 10)
    clock.now += 5
    assert stages.left() is None
    (current,) = [stages.current()]
    assert current is not None
    assert current.said(clock.now) == "restore 0/10 tiles"


def test_slow_steps_are_timed_over_more_than_the_span(clock: Clock) -> None:
    stages = Stages(clock)
    stages.tell("restore", 0, 10)
    steps(stages.tell, clock, "restore", 1, 5, 10, 40.0)
    assert stages.left() == pytest.approx(200)
    current = stages.current()
    assert current is not None
    assert current.said(clock.now) == "restore 5/10 tiles, 1.5/min, 0:03:20 left"


def test_the_stage_that_takes_longest_still_is_shown(clock: Clock) -> None:
    stages = Stages(clock)
    stages.tell("mask", 0, 1)
    stages.tell("restore", 0, 100)
    stages.tell("write", 0, 10)
    for done in range(1, 51):
        clock.now += 0.5
        stages.tell("restore", done, 100)
        stages.tell("write", done // 25, 10)
    current = stages.current()
    assert current is not None
    assert current.name == "write"
    stages.tell("write", 10, 10)
    current = stages.current()
    assert current is not None
    assert current.name == "restore"


def test_once_files_are_encoded_tiles_and_stripes_are_over(clock: Clock) -> None:
    """A run that goes on after a stop asks for fewer tiles than there are."""
    stages = Stages(clock)
    stages.tell("plan", 600, 900)
    steps(stages.tell, clock, "restore", 1, 300, 600, 0.01)
    steps(stages.tell, clock, "write", 1, 9, 10, 0.01)
    stages.tell("encode", 0, 1)
    current = stages.current()
    assert current is not None
    assert current.name == "encode"
    steps(stages.tell, clock, "encode", 1, 3, 4, 1.0)
    current = stages.current()
    assert current is not None
    assert current.said(clock.now) == "encode 3/4 files, 1.0/s, 0:00:01 left"
    stages.tell("encode", 4, 4)
    assert stages.left() is None


def test_making_the_network_ready_is_part_of_what_it_takes(clock: Clock) -> None:
    stages = Stages(clock)
    assert stages.tell("plan", 10, 64)
    clock.now += 4
    current = stages.current()
    assert current is not None
    assert current.said(clock.now) == "restore 0/10 tiles"
    assert not stages.tell("restore", 1, 10)
    assert stages.left() == pytest.approx(9 * 4)


def test_a_scene_without_tiles_moves_by_its_stripes(clock: Clock) -> None:
    """Nothing is told of the network but that it has nothing to do."""
    stages = Stages(clock)
    stages.tell("plan", 0, 64)
    stages.tell("restore", 0, 1)
    stages.tell("write", 0, 8)
    steps(stages.tell, clock, "write", 1, 4, 8, 2.0)
    current = stages.current()
    assert current is not None
    assert current.said(clock.now) == "write 4/8 stripes, 0.5/s, 0:00:08 left"
    assert stages.needed == (0, 64)


def test_threads_that_tell_in_the_wrong_order_do_not_turn_it_back(clock: Clock) -> None:
    stages = Stages(clock)
    for done in (0, 3, 2, 5, 4):
        clock.now += 1
        stages.tell("restore", done, 10)
    current = stages.current()
    assert current is not None
    assert current.done == 5


def test_many_threads_may_tell_at_once() -> None:
    stages = Stages(itertools.count().__next__)
    threads = [
        threading.Thread(target=lambda: [stages.tell("restore", done, 200) for done in range(201)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    current = stages.current()
    assert current is not None
    assert (current.done, current.total) == (200, 200)


def scene(run: Run, clock: Clock, number: int, count: int, tiles: int) -> None:
    stages = run.scene(number, count)
    stages.tell("restore", 0, tiles)
    steps(stages.tell, clock, "restore", 1, tiles, tiles, 1.0)
    run.end()


def test_all_scenes_take_as_long_as_those_that_were_done(clock: Clock) -> None:
    run = Run(clock)
    assert run.left() is None
    scene(run, clock, 1, 4, 30)
    assert run.left() == pytest.approx(90)
    # One that was done before says nothing of those to come.
    run.scene(2, 4)
    clock.now += 0.5
    run.end()
    assert run.left() == pytest.approx(60)
    stages = run.scene(3, 4)
    clock.now += 5
    assert run.left() == pytest.approx(25 + 30)
    stages.tell("restore", 0, 100)
    steps(stages.tell, clock, "restore", 1, 50, 100, 1.0)
    assert run.left() == pytest.approx(50 + 30)


def test_the_first_scene_speaks_for_all_until_it_is_done(clock: Clock) -> None:
    run = Run(clock)
    stages = run.scene(1, 3)
    stages.tell("restore", 0, 20)
    steps(stages.tell, clock, "restore", 1, 10, 20, 1.0)
    assert run.left() == pytest.approx(10 + 2 * 20)


def test_plain_lines_come_at_each_stage_and_then_now_and_again(clock: Clock) -> None:
    lines: list[str] = []
    with Lines(lines.append, clock) as told:
        tell = told.scene(2, 3, "33UWP 2023-08-10")
        tell("mask", 0, 1)
        tell("plan", 100, 256)
        tell("restore", 0, 100)
        for done in range(1, 101):
            clock.now += 0.2
            tell("restore", done, 100)
            tell("write", done // 50, 2)
        tell("encode", 0, 6)
        told.ended("done in 20 s")
    place = "[2/3] 33UWP 2023-08-10: "
    assert all(line.startswith(place) for line in lines)
    said = [line.removeprefix(place) for line in lines]
    assert said[:3] == ["mask", "restore: 100 of 256 tiles need the network", "write, 2 stripes"]
    assert said[3] == "restore 26/100 tiles, 5.0/s, 0:00:15 left"
    assert len(said) == 3 + 3 + 2
    assert said[-2:] == ["encode, 6 files", "done in 20 s (1 to go, about 0:00:20)"]


def test_a_stage_that_counts_nothing_is_spoken_of_ever_more_seldom(clock: Clock) -> None:
    lines: list[str] = []
    told = Lines(lines.append, clock)
    tell = told.scene(1, 1, "S")
    tell("mask", 0, 1)
    for _ in range(120):
        clock.now += 1
        tell("mask", 0, 1)
    told.ended("done")
    assert lines[:3] == ["[1/1] S: mask", "[1/1] S: mask 0:00:05", "[1/1] S: mask 0:00:10"]
    assert lines[-1] == "[1/1] S: done"
    assert 6 < len(lines) < 14


def test_lines_come_also_while_nobody_tells_anything(clock: Clock) -> None:
    said = threading.Event()
    lines: list[str] = []

    def write(line: str) -> None:
        lines.append(line)
        if "0:00:07" in line:
            said.set()

    with Lines(write, clock) as told:
        told.scene(1, 1, "S")("mask", 0, 1)
        clock.now += 7
        assert said.wait(60)
        told.ended("done")
    assert lines == ["[1/1] S: mask", "[1/1] S: mask 0:00:07", "[1/1] S: done"]


def shown(width: int, clock: Clock, run: Callable[[Bar], None]) -> list[str]:
    """The last picture of a bar on a terminal of that width."""
    file = io.StringIO()
    bar = Bar(console=Console(file=file, force_terminal=True, width=width, color_system=None), clock=clock)
    run(bar)
    with bar._console.capture() as captured:
        bar._console.print(bar._shown())
    return captured.get().splitlines()


def half(clock: Clock) -> Callable[[Bar], None]:
    def run(bar: Bar) -> None:
        tell = bar.scene(2, 3, "33UWP 2023-08-10")
        tell("plan", 120, 400)
        tell("restore", 0, 120)
        steps(tell, clock, "restore", 1, 60, 120, 0.5)

    return run


def test_a_bar_says_how_far_how_fast_and_how_long(clock: Clock) -> None:
    scenes, tiles = shown(120, clock, half(clock))
    assert scenes.startswith("scenes ")
    assert "1/3" in scenes
    assert "about 0:01:30 left" in scenes
    assert tiles.startswith("33UWP 2023-08-10  restore ")
    assert tiles.endswith("60/120 tiles, 0:00:30 left, 2.0/s, 400 in all")
    assert "━" in tiles


@pytest.mark.parametrize("width", [1, 10, 20, 30, 40, 50, 60, 80, 100, 200])
def test_no_line_is_broken_on_a_narrow_terminal(width: int, clock: Clock) -> None:
    lines = shown(width, clock, half(clock))
    assert len(lines) == 2
    assert all(len(line) <= width for line in lines)
    if width >= 60:
        assert "60/120 tiles, 0:00:30 left" in lines[1]


def test_a_stage_without_tiles_shows_how_long_it_has_taken(clock: Clock) -> None:
    def run(bar: Bar) -> None:
        bar.scene(1, 1, "S")("mask", 0, 1)
        clock.now += 65

    scenes, stage = shown(80, clock, run)
    assert stage.startswith("S  mask ")
    assert stage.endswith("0:01:05")
    assert "left" not in scenes + stage


def test_a_bar_leaves_the_lines_of_the_scenes(clock: Clock) -> None:
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=60, color_system=None)
    with Bar(console=console, clock=clock) as bar:
        tell = bar.scene(1, 1, "S [not markup]")
        tell("restore", 0, 4)
        clock.now += 1
        tell("restore", 4, 4)
        bar.ended("done in 1.0 s (network 1.0 s was the limit): observed 100 %, a line longer than the terminal")
    text = file.getvalue()
    assert (
        "[1/1] S [not markup]: done in 1.0 s (network 1.0 s was the limit): observed 100 %, a line longer than" in text
    )
    assert "restore" in text


def test_whom_to_tell() -> None:
    assert isinstance(watcher(quiet=True), Silent)
    assert isinstance(watcher(), Lines)
    assert rate(0, 10, 0.0) == "0/10"


def test_a_log_of_a_scene_tells_each_stage_once_and_then_seldom(caplog: pytest.LogCaptureFixture, clock: Clock) -> None:
    log = logging.getLogger("tests.scene")
    with caplog.at_level(logging.INFO, "tests.scene"), SceneLog(log, "S", clock) as told:
        tell = told.scene(1, 1, "33UWP")
        for done in range(1, 13):
            clock.now += 1
            tell("restore", done, 12)
            tell("write", done // 4, 3)
    lines = [record.getMessage() for record in caplog.records]
    assert [line for line in lines if "done=" not in line][1:] == ["scene=S stage=restore", "scene=S stage=write"]
    assert [line for line in lines if "done=" in line] == [
        "scene=S stage=restore done=6 total=12", "scene=S stage=write done=1 total=3",
        "scene=S stage=restore done=11 total=12", "scene=S stage=write done=2 total=3",
    ]  # fmt: skip


def test_a_log_of_a_scene_holds_the_warnings_of_every_thread(caplog: pytest.LogCaptureFixture, clock: Clock) -> None:
    """Prefect's own handler drops what comes from a thread that is in no run."""
    engine = logging.getLogger("pipeline.several")
    with SceneLog(logging.getLogger("tests.scene"), "S", clock):
        failed = threading.Thread(
            target=engine.warning, args=("%s failed, see %s", "cuda:1", "https://me:pw@host/a?sig=s")
        )
        failed.start()
        failed.join()
        engine.error("the scene's own line says this")
    engine.warning("nobody listens any more")
    lines = [(record.levelname, record.getMessage()) for record in caplog.records if record.name == "tests.scene"]
    assert lines == [("WARNING", 'scene=S warning="cuda:1 failed, see https://host/a"')]
