"""What a training leaves in Prefect: how far it is, its scores as a table, and its card with a picture."""

from __future__ import annotations

import base64
import io
import json
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from flows.artifacts import attempt
from flows.meter import Meter
from flows.scene_log import Log
from flows.train_watch import Lines, pace

if TYPE_CHECKING:
    from srgan.progress import Progress

LARGEST = 256
"""Edge of a picture, pixels: it lives in Prefect's database."""
PREFIX = "validation/"


class Artifacts:
    """A `TrainWatcher` that keeps a progress artifact and a table of scores in Prefect, and writes lines to the run's log.

    A server that does not answer costs a line in the log and no training.
    """

    def __init__(self, logger: Log, output: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._logger, self._output = logger, output
        self._lines = Lines(logger.info, clock)
        self._reached = (0.0, "begins")
        self._meter = Meter("train-progress", str(output), lambda: self._reached, logger)

    def __enter__(self) -> Self:
        self._meter.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._meter.end(self._reached[1])
        self._meter.__exit__(kind, error, trace)

    def stage(self, stage: str, done: int, total: int) -> None:
        """As in `TrainWatcher`."""
        self._lines.stage(stage, done, total)

    def step(self, progress: Progress) -> None:
        """As in `TrainWatcher`."""
        self._lines.step(progress)
        self._reached = (progress.step / progress.steps, pace(progress))
        if progress.validation is not None:
            attempt(self._logger, "scores", lambda: publish_scores(self._output))


def publish_scores(output: Path) -> None:
    """The scores of all validations so far, a row each. One key for all trainings: Prefect keeps its versions."""
    create_table_artifact(table=scores_of(output), key="train-scores", description=str(output))


def scores_of(output: Path) -> list[dict[str, Any]]:
    """The validations in `log.jsonl`, which the trainer writes: step and scores; None where one is not finite."""
    file = output / "log.jsonl"
    entries = [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []
    rows = []
    for entry in entries:
        found = {name.removeprefix(PREFIX): value for name, value in entry.items() if name.startswith(PREFIX)}
        if found:
            rows.append({"step": int(entry["step"]), **{name: _rounded(value) for name, value in found.items()}})
    return rows


def publish_card(output: Path, card: str, log: Log) -> None:
    """The model card with a picture of the last validation, where there is one."""
    text = Path(card).read_text(encoding="utf-8")
    picture = last_picture(output)
    if picture is not None:
        encoded = base64.b64encode(picture).decode("ascii")
        text += f"\n\nInput, prediction, truth:\n\n![validation](data:image/png;base64,{encoded})\n"
    attempt(log, "card", lambda: create_markdown_artifact(markdown=text, key="train-card", description=str(output)))


def last_picture(output: Path) -> bytes | None:
    """PNG of at most 256 x 256 pixels: input, prediction and truth of a few samples, from TensorBoard's last file.

    None where TensorBoard is not installed or no validation was shown.
    """
    try:
        from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
    except ImportError:
        return None
    from PIL import Image

    found = None
    for file in sorted((output / "tensorboard").glob("events.*"), key=lambda path: path.stat().st_mtime)[-1:]:
        for event in EventFileLoader(str(file)).Load():
            for value in event.summary.value:
                if value.tag == "validation" and value.tensor.string_val:
                    found = value.tensor.string_val
    if found is None:
        return None
    with Image.open(io.BytesIO(found[2])) as strip:
        # The left half of each row is input, prediction, truth; as many rows as make it square.
        width = strip.width // 2
        shown = strip.crop((0, 0, width, min(strip.height, width)))
    shown.thumbnail((LARGEST, LARGEST))
    file_like = io.BytesIO()
    shown.save(file_like, "PNG")
    return file_like.getvalue()


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.5g}")
