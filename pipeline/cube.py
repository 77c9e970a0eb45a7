"""`append_products`: the products of a time series as one Zarr store with the dimensions time, y and x."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from pipeline.areagrid import AreaGrid
from pipeline.cube_record import CubeRecord, StepRecord, read_record

__all__ = ["AreaGrid", "CubeState", "append_products", "read_cube_state"]


@dataclass(frozen=True)
class CubeState:
    """What a cube holds."""

    path: Path
    steps: tuple[StepRecord, ...] = ()
    """In the order of the time axis."""
    groups: tuple[str, ...] = ()
    """Names of its groups, `r10m`."""
    passed_over: Mapping[str, str] = field(default_factory=dict)
    """Products that were given to the last append and are not in the cube -> why."""

    @property
    def times(self) -> tuple[datetime, ...]:
        """The time axis, UTC."""
        return tuple(step.time for step in self.steps)

    @property
    def products(self) -> tuple[str, ...]:
        """Ids of the products, in the order of the time axis."""
        return tuple(member.product for step in self.steps for member in step.members)


def read_cube_state(cube: Path) -> CubeState:
    """What the cube at `cube` holds; empty where there is none.

    Raises InvalidSettings for what is no cube of ours, ReadFailed where it cannot be read.
    """
    return _state(cube, read_record(cube))


def append_products(cube: Path, products: Sequence[Path], *, grid: AreaGrid | None = None) -> CubeState:
    """Bring the products of one window into the cube, all of them or, on any error or crash, none."""
    raise NotImplementedError


def _state(cube: Path, record: CubeRecord | None, passed_over: Mapping[str, str] | None = None) -> CubeState:
    if record is None:
        return CubeState(cube, passed_over=passed_over or {})
    return CubeState(cube, record.steps, tuple(record.grids), passed_over or {})
