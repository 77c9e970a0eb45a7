"""`Job`: what one process of a benchmark is to do, handed over as a JSON file, and the marks that it leaves. Standard library only."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self


@dataclass(frozen=True)
class Job:
    """Input, output and settings of one run."""

    bands: dict[str, str]
    """ESA's band name -> single-band raster, all on one extent."""
    output: str
    """Folder that the product goes to; empty or not there."""
    marks: str
    """File that the process leaves its times and facts in."""
    mask: str = ""
    """Raster of uint8 on the finest grid, non-zero = cloud; empty: none."""
    network: str = ""
    """Weights of the shared network (.safetensors with its card); empty: the identity."""
    threads: int = 1
    """Threads of torch, and of GDAL while compressing."""
    tile: int = 256
    """Tile edge, pixels."""
    overlap: int = 32
    """Overlap of neighbouring tiles, pixels."""
    options: dict[str, Any] = field(default_factory=dict)
    """What only one contender asks for."""

    def __post_init__(self) -> None:
        if not self.bands:
            raise ValueError("a job needs at least one band")
        if not 0 <= self.overlap < self.tile:
            raise ValueError(f"overlap {self.overlap} must be 0 or more and smaller than the tile {self.tile}")

    def save(self, path: Path) -> None:
        """Write the job as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """The job in a file that `save` wrote."""
        return cls(**json.loads(Path(path).read_text(encoding="utf-8")))

    @contextmanager
    def timed(self) -> Iterator[dict[str, Any]]:
        """Time the body as the work proper; what is put into the dictionary goes into the marks.

        `time.monotonic` counts alike in all processes of a machine, so the parent can tell start-up from work. Nothing is written
        where the body raises.
        """
        facts: dict[str, Any] = {}
        begin = time.monotonic()
        yield facts
        end = time.monotonic()
        Path(self.marks).write_text(json.dumps({"begin": begin, "end": end, "facts": facts}), encoding="utf-8")
