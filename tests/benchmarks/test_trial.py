"""Runs of contenders: measured from outside, and whatever goes wrong is said and costs that contender only."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import pytest

import benchmarks.bench.__main__ as command
from benchmarks.bench.contest import hold
from benchmarks.bench.entry import Check, Entry, Setup, Verdict
from benchmarks.bench.environment import Environment
from benchmarks.bench.images import Images
from benchmarks.bench.job import Job
from benchmarks.bench.run import Run, Tally
from benchmarks.bench.scenes import MadeScene
from benchmarks.bench.trial import STOPWATCH, environment, run_trial


def entry(scene: MadeScene, do: str, group: str = "") -> Entry:
    job = Job(scene.files, "", "", options={"do": do})
    return Entry(
        do.replace(" ", "-"), f"one that will {do}", "tests.benchmarks.made_contender", job, group, Check(True)
    )


def test_a_run_is_measured(scene: MadeScene, tmp_path: Path) -> None:
    run = run_trial(entry(scene, "copy"), 3, tmp_path, sys.executable)
    assert (run.failed, run.entry, run.round, run.changed, run.checked) == ("", "copy", 3, 0, 4 * 600 * 600)
    assert 0 < run.work < run.wall
    assert 0 < run.startup < run.wall
    assert run.work + run.startup <= run.wall
    assert run.output == sum(Path(path).stat().st_size for path in scene.files.values())
    assert not (tmp_path / "copy" / "out").exists()


def test_peak_memory_is_the_childs_and_not_this_processs(scene: MadeScene, tmp_path: Path) -> None:
    small = run_trial(entry(scene, "copy"), 0, tmp_path, sys.executable)
    large = run_trial(entry(scene, "hold memory"), 0, tmp_path, sys.executable)
    assert small.peak < 60e6
    assert 200e6 < large.peak < 320e6
    assert large.tree_peak >= large.peak


@pytest.mark.parametrize(
    ("do", "says"),
    [
        ("raise", "status 1: RuntimeError: no such luck"),
        ("say nothing", "without leaving its times"),
        ("lose one", "the product lacks"),
        ("hang", "not done after 2 s"),
    ],
)
def test_what_goes_wrong_is_said(scene: MadeScene, tmp_path: Path, do: str, says: str) -> None:
    timeout = 2 if do == "hang" else 60
    assert says in run_trial(entry(scene, do), 0, tmp_path, sys.executable, timeout).failed


def test_an_interpreter_that_is_not_there_is_said(scene: MadeScene, tmp_path: Path) -> None:
    assert "could not be started" in run_trial(entry(scene, "copy"), 0, tmp_path, str(tmp_path / "python")).failed


def test_the_stopwatch_counts_the_whole_tree(tmp_path: Path) -> None:
    child = "import time; held = b'x' * 100_000_000; time.sleep(0.6)"
    code = f"import subprocess, sys; [p.wait() for p in [subprocess.Popen([sys.executable, '-c', {child!r}]) for _ in '12']]"
    spec = {"command": [sys.executable, "-c", code], "log": str(tmp_path / "log"), "environment": {}, "timeout": 60}
    (tmp_path / "spec.json").write_text(json.dumps({**spec, "folder": str(tmp_path)}))
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(STOPWATCH), str(tmp_path / "spec.json")], capture_output=True, check=True
    )
    measured = json.loads(done.stdout)
    assert measured["status"] == 0
    assert measured["tree_peak"] > 200e6
    assert 100e6 < measured["peak"] < 200e6
    assert measured["ended"] - measured["started"] >= 0.6


def test_a_stopwatch_that_is_ended_ends_its_run(tmp_path: Path) -> None:
    code = f"import os, time; open({str(tmp_path / 'id')!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    spec = {"command": [sys.executable, "-c", code], "log": str(tmp_path / "log"), "environment": {}, "timeout": 600}
    (tmp_path / "spec.json").write_text(json.dumps({**spec, "folder": str(tmp_path)}))
    watch = [sys.executable, "-I", "-S", str(STOPWATCH), str(tmp_path / "spec.json")]
    with subprocess.Popen(watch, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        while not (tmp_path / "id").exists() or not (tmp_path / "id").read_text():
            assert process.poll() is None
            time.sleep(0.02)
        process.terminate()
        assert process.wait(60) != 0
    assert not psutil.pid_exists(int((tmp_path / "id").read_text()))


def test_settings_of_threads_are_not_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("SOMETHING", "else")
    assert "OMP_NUM_THREADS" not in environment()
    assert environment()["SOMETHING"] == "else"


@dataclass(frozen=True)
class MadeLine:
    """A line of made contenders."""

    made: tuple[Entry, ...]
    name: str = "made"
    title: str = "made contenders"

    def entries(self, setup: Setup) -> Sequence[Entry]:
        assert setup.threads >= 1
        return self.made

    def yardstick(self) -> str:
        return self.made[0].name

    def verdicts(self, tallies: Mapping[str, Tally]) -> Sequence[Verdict]:
        return [Verdict("values changed", tallies[self.made[0].name].changed, 0)]


def setup(tmp_path: Path) -> Setup:
    return Setup(tmp_path, Images(tmp_path, real=False), tmp_path, 1)


def test_rounds_are_interleaved_and_turned_and_a_failed_one_is_not_run_again(scene: MadeScene, tmp_path: Path) -> None:
    first = entry(scene, "copy")
    line = MadeLine((first, entry(scene, "raise"), replace(first, name="again")))
    told: list[str] = []
    result = hold(line, setup(tmp_path), 3, Environment(tmp_path / "none"), told.append)
    order = [line.split("one that will ")[1].split()[0] for line in told if "one that will" in line]
    assert order == ["copy", "raise", "copy", "copy", "copy", "copy", "copy"]
    assert [run.round for run in result.tallies["copy"].runs] == [0, 1, 2]
    assert len(result.tallies["raise"].runs) == 1
    assert result.failed == ["one that will raise: status 1: RuntimeError: no such luck"]
    assert [verdict.holds for verdict in result.verdicts] == [True]


def test_who_cannot_be_installed_says_why_and_the_others_go_on(scene: MadeScene, tmp_path: Path) -> None:
    missing = Environment(tmp_path / "none", _missing={"monai": "not installed: no network"})
    line = MadeLine((entry(scene, "copy"), entry(scene, "raise", "monai")))
    result = hold(line, setup(tmp_path), 1, missing, lambda _: None)
    assert result.failed == ["one that will raise: not installed: no network"]
    assert not result.tallies["copy"].failed


def test_who_is_left_out_is_in_no_row_and_in_no_verdict(scene: MadeScene, tmp_path: Path) -> None:
    line = MadeLine((entry(scene, "copy", "monai"), entry(scene, "lose one")))
    result = hold(line, setup(tmp_path), 1, Environment(tmp_path / "none"), lambda _: None, lambda one: not one.group)
    assert list(result.tallies) == ["lose-one"]
    assert [verdict.value for verdict in result.verdicts] == [None]


@pytest.mark.parametrize(("do", "status"), [("copy", 0), ("raise", 1)])
def test_the_command_writes_its_results_and_its_status_tells_of_failures(
    scene: MadeScene,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    do: str,
    status: int,
) -> None:
    monkeypatch.setattr(command, "LINES", (MadeLine((entry(scene, do),)),))
    monkeypatch.setattr(Images, "find", classmethod(lambda _, data, work: Images(data, real=work == data)))
    work = tmp_path / "work"
    assert command.main(["--work", str(work), "--rounds", "2", "--ours-only", "--only", "made"]) == status
    assert (
        command.main(["--work", str(tmp_path / "other"), "--ours-only", "--only", "made", "--contenders", "nobody"])
        == 2
    )
    document = json.loads((work / "bench.json").read_text(encoding="utf-8"))
    (line,) = document["lines"]
    runs = [Run.from_json(run) for run in line["entries"][0]["runs"]]
    assert len(runs) == (2 if status == 0 else 1)
    assert bool(runs[0].failed) == bool(status)
    assert ("failed:" in capsys.readouterr().err) == bool(status)
    assert "made contenders" in (work / "bench.md").read_text(encoding="utf-8")
    assert (work / "bench.svg").read_text(encoding="utf-8").startswith("<svg")


@pytest.mark.parametrize(
    "wrong", [["--only", "nothing"], ["--only", ""], ["--rounds", "0"], ["--rounds", "x"], ["--size", "-5"]]
)
def test_wrong_arguments_end_with_status_2(tmp_path: Path, wrong: list[str], capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(["--work", str(tmp_path), *wrong])
    assert ended.value.code == 2
    assert "error:" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())
