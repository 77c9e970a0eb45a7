"""What a training tells while it runs, and what it leaves behind."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Progress:
    """Where a run is."""

    epoch: int
    """From 1."""
    step: int
    """Steps done."""
    steps: int
    terms: dict[str, float]
    """Weighted terms of the loss in this step."""
    rate: float
    """Steps a second, over the last epoch or since the start."""
    wait_share: float
    """Share of that time spent waiting for batches, 0..1."""
    seconds_left: float
    validation: dict[str, float] | None = None
    """Scores, after the last step of an epoch."""


@dataclass(frozen=True)
class TrainResult:
    """What a run left behind."""

    step: int
    last: Path
    best: Path | None
    """The release checkpoint; None where no validation came to an end."""
    scores: dict[str, float] = field(default_factory=dict)
    """Of the last validation; `first_rmse_cloudy` and `best_rmse_cloudy` besides."""
    interrupted: bool = False
