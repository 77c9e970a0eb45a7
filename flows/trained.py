"""`Trained`: what the steps of a training left behind, as small values that a task, a table or a machine can take."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from flows.train_watch import numbers
from srgan.archive import Format


@dataclass(frozen=True)
class Chips:
    """The chips of a training."""

    folder: str
    splits: dict[str, int]
    """Split -> chips."""
    split_hash: str
    left_out: tuple[str, ...] = ()
    """What of the tables was left out and why, one line each."""


@dataclass(frozen=True)
class Fitted:
    """What the trainer left."""

    step: int
    """Steps done, those of earlier runs among them."""
    best: str = ""
    """The release checkpoint; empty where none was validated."""
    scores: dict[str, float] = field(default_factory=dict)
    """Finite ones only."""
    worked: bool = True
    """False where no step was left to do."""


@dataclass(frozen=True)
class Exported:
    """One export of the best checkpoint."""

    format: Format
    path: str
    max_difference: float
    """Largest difference from the eager network, reflectance."""
    kept: bool = False
    """True where it was there already."""


@dataclass(frozen=True)
class Trained:
    """How a training ended."""

    output: str
    chips: Chips
    fitted: Fitted
    exports: tuple[Exported, ...] = ()
    card: str = ""

    def lines(self) -> Iterator[tuple[str, str]]:
        """What there is to say of it: a word and a line each."""
        chips, fitted = self.chips, self.fitted
        yield "chips", f"{chips.folder}: {', '.join(f'{count} {name}' for name, count in chips.splits.items())}"
        for line in chips.left_out:
            yield "left out", line
        yield (
            "training",
            f"{fitted.step} steps" if fitted.worked else f"finished before, after {fitted.step} steps: nothing to do",
        )
        if fitted.scores:
            yield "scores", numbers(fitted.scores)
        yield "best", fitted.best or "none: no validation came to an end"
        if self.card:
            yield "card", self.card
        for made in self.exports:
            kept = ", was there already" if made.kept else ""
            yield "export", f"{made.path} (differs from the checkpoint by at most {made.max_difference:.1e}{kept})"
