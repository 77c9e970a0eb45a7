"""What the tests of the command line and of the flows share."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import pty
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.cli import main
from pipeline.simulation.simulate import Simulated, SimulatedDate, simulate_area
from pipeline.simulation.weather import Weather
from tests.flows.serving import serving, using, write_database
from tests.pipeline.made import write_raster

# Prefect reads its environment when it is first imported, which collecting doctests does: nothing of the tests may end
# up in the user's own folder.
_PREFECT_HOME = tempfile.mkdtemp(prefix="decloud-tests-prefect-")
atexit.register(shutil.rmtree, _PREFECT_HOME, ignore_errors=True)
os.environ |= {
    "PREFECT_HOME": _PREFECT_HOME,
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_LOGGING_LEVEL": "ERROR",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
}


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server for all modules of this process: to start one takes as long as many flow runs."""
    database = write_database(tmp_path_factory, tmp_path_factory.mktemp("server") / "prefect.db")
    with serving(database) as url:
        yield url


@pytest.fixture(scope="module")
def server(shared_server: str) -> Iterator[str]:
    """The URL of the server that this module's flows and clients ask. Leave no deployments and no planned runs there."""
    with using(shared_server):
        yield shared_server


@pytest.fixture(autouse=True)
def answered() -> Iterator[None]:
    """A server that did not answer one test is asked by the next."""
    yield
    showing = sys.modules.get("flows.showing")
    if showing is not None:
        showing.answered()


BANDS = ("B02", "B03", "B04", "B08")
QUICK = ("--checkpoint", "identity", "--tile", "64")


@dataclass(frozen=True)
class Ended:
    """What a command left behind."""

    status: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line that says what is wrong."""
        lines = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, self.err
        assert "Traceback" not in self.err + self.out
        return lines[0]

    @property
    def document(self) -> Any:
        """The one JSON document on standard output."""
        return json.loads(self.out)


Decloud = Callable[..., Ended]


def on_a_terminal(command: Sequence[str]) -> str:
    """What a command, which has to end well, writes to standard error where that is a terminal."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # how the end of a terminal is told
            while piece := os.read(ours, 65536):
                shown += piece
        assert process.wait() == 0
    os.close(ours)
    return shown.decode()


@pytest.fixture
def decloud(capsys: pytest.CaptureFixture[str]) -> Decloud:
    """Run a command line in this process."""

    def run(*arguments: object) -> Ended:
        capsys.readouterr()
        status = main([str(argument) for argument in arguments])
        told = capsys.readouterr()
        return Ended(status, told.out, told.err)

    return run


@dataclass(frozen=True)
class MadeScene:
    """A scene as a user has it: single-band files, and a mask of his own."""

    folder: Path
    files: tuple[str, ...]
    mask: Path

    def arguments(self, output: Path, *more: object) -> tuple[object, ...]:
        """A run of this scene, small and without a network."""
        quick = ("--mask", self.mask, "--references", "0", "--overlap", "16", *QUICK)
        return ("run", *self.files, "--output", output, *quick, *more)


def make_scene(folder: Path, size: int = 96, cloud: slice = slice(30, 60), **options: Any) -> MadeScene:
    """Write B02, B03, B04, B08 of a made scene and its mask. `options` go to `write_raster`; `fill` sets all pixels."""
    folder.mkdir(parents=True, exist_ok=True)
    fill, dtype = options.pop("fill", None), options.pop("dtype", np.uint16)
    rng = np.random.default_rng(5)
    files = []
    for number, band in enumerate(BANDS):
        pixels = rng.integers(300, 3000, (size, size)) + 100 * number
        pixels[cloud, cloud] += 6000
        if fill is not None:
            pixels[:] = fill
        suffix = ".jp2" if options.get("driver") == "JP2OpenJPEG" else ".tif"
        files.append(str(write_raster(folder / f"T33UWP_20230810_{band}{suffix}", pixels.astype(dtype), **options)))
    mask = np.zeros((size, size), np.uint8)
    mask[cloud, cloud] = 1
    where = {name: value for name, value in options.items() if name in ("crs", "resolution", "origin")}
    return MadeScene(folder, tuple(files), write_raster(folder / "mask.tif", mask, nodata=None, **where))


@pytest.fixture
def scene(tmp_path: Path) -> MadeScene:
    """One made scene."""
    return make_scene(tmp_path / "scene")


@pytest.fixture(scope="session")
def area(tmp_path_factory: pytest.TempPathFactory) -> Simulated:
    """A simulated area of three dates, the middle one cloudy. Read it, never write to it."""
    dates = (
        SimulatedDate(0, Weather(cumulus=0.004, cell=300, base=600)),
        SimulatedDate(5, Weather(cumulus=0.3, cell=400, base=500)),
        SimulatedDate(10, Weather(cumulus=0.004, cell=300, base=600)),
    )
    return simulate_area(tmp_path_factory.mktemp("area"), size=192, dates=dates)


def area_run(area: Simulated, output: Path, *more: object, command: str = "run") -> tuple[object, ...]:
    """A run of the simulated area without a network."""
    where = ("--catalog", area.catalogue, "--aoi", area.aoi, "--output", output)
    dates = () if "--dates" in more else ("--dates", area.dates)
    return (command, *where, *dates, *QUICK, "--quiet", *more)
