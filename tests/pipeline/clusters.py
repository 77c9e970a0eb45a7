"""Real clusters for tests: a scheduler and workers as processes of their own, and a small network that is no plain fill."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import rasterio
import torch

from catalogs.item import SceneItem
from srgan.checkpoint import save_checkpoint
from srgan.generator import Generator
from srgan.spec import ModelSpec

from .made import made_item

PATIENCE = 240.0


def waited(condition: Callable[[], object], what: str) -> None:
    """Wait until something holds; machines may be busy."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"never came: {what}"
        time.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def small_checkpoint(folder: Path) -> Path:
    """The smallest network, with shaken weights: every output pixel depends on what is around it."""
    torch.manual_seed(11)
    generator = Generator(ModelSpec(name="shaken", widths=(8, 8, 12, 12), depths=(1, 1, 1, 1)))
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    return save_checkpoint(folder / "shaken.safetensors", generator.eval(), {}, dtype=torch.float32)


def mirrored(item: SceneItem, folder: Path, day: int) -> SceneItem:
    """Another date of a scene: mirrored, so that it is clear under the scene's clouds."""

    def pixels(href: str) -> np.ndarray:
        with rasterio.open(href) as file:
            return file.read(1)[:, ::-1]

    assert item.scl is not None
    bands = {name: pixels(asset.href) for name, asset in item.bands.items()}
    when = item.datetime.replace(day=day)
    return made_item(
        folder,
        bands,
        scl=pixels(item.scl.href),
        when=when,
        sun_azimuth=item.sun_azimuth,
        sun_elevation=item.sun_elevation,
    )


@dataclass
class Processes:
    """A scheduler and its workers."""

    folder: Path
    scheduler: subprocess.Popen[bytes]
    address: str
    workers: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def living(self) -> int:
        """Workers that are there; none where the scheduler is gone."""
        return sum(worker.poll() is None for worker in self.workers.values()) if self.scheduler.poll() is None else 0

    def add_worker(self, name: str, *options: str, **environment: str) -> None:
        """Start a worker of one thread, without a nanny, in a folder of its own."""
        folder = self.folder / name
        folder.mkdir()
        self.workers[name] = _started(
            ["worker", self.address, "--name", name, "--nthreads", "1", "--no-nanny", "--no-dashboard", "--host", "127.0.0.1",
             "--local-directory", str(folder), *options],
            folder, **environment,
        )  # fmt: skip

    def kill(self, name: str) -> None:
        """End a worker, or the `scheduler`, at once and without a word."""
        process = self.scheduler if name == "scheduler" else self.workers[name]
        process.send_signal(signal.SIGKILL)
        process.wait()


def _started(arguments: list[str], folder: Path, **environment: str) -> subprocess.Popen[bytes]:
    with (folder / f"{arguments[0]}.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "dask", *arguments],
            cwd=folder,
            env=os.environ | {"OMP_NUM_THREADS": "1", "DASK_DISTRIBUTED__WORKER__DAEMON": "False"} | environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


@contextlib.contextmanager
def processes(folder: Path, workers: int = 0) -> Iterator[Processes]:
    """A scheduler on a free port with workers called w0, w1, ...; ended by their process ids."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "scheduler.json"
    scheduler = _started(
        ["scheduler", "--host", "127.0.0.1", "--port", "0", "--dashboard-address", "127.0.0.1:0", "--scheduler-file", str(file)],
        folder,
    )  # fmt: skip
    started = Processes(folder, scheduler, "")
    try:
        waited(lambda: file.exists() or scheduler.poll() is not None, "the scheduler's file")
        assert scheduler.poll() is None, (folder / "scheduler.log").read_text()
        waited(file.read_text, "the scheduler's address")
        started.address = json.loads(file.read_text())["address"]
        for number in range(workers):
            started.add_worker(f"w{number}")
        yield started
    finally:
        for process in (*started.workers.values(), scheduler):
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.wait()
