"""`append_products`: the products of a time series as one Zarr store with the dimensions time, y and x.

    cube.zarr/r10m/B02, B03, ... provenance, confidence, cloudmask   a group for each resolution, as in a Zarr product, with time in front
    ds = xr.open_zarr("cube.zarr", group="r10m")                     lazily, with time, product_id, item_id and the CRS

The cube changes all at once or not at all (`pipeline.cube_store`), and depends on the set of products only, not on their order
(`pipeline.cube_plan`): a scene that comes late gets its place on the time axis, a product that follows another takes its place. Data that
were opened before such a change must be opened again (`reordered` in the record counts them); an append at the end disturbs nobody.
With an `AreaGrid`, scenes of neighbouring tiles and of one day are merged on it (`pipeline.daymosaic`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from pipeline.areagrid import AreaGrid
from pipeline.cube_layout import CubeLayout
from pipeline.cube_plan import arrange, choose, folder_of, identity
from pipeline.cube_record import CubeRecord, MemberRecord, StepRecord
from pipeline.cube_source import ProductPixels, PublishedProduct, StepSource
from pipeline.cube_store import CubeStore
from pipeline.daymosaic import DayMosaic
from pipeline.errors import InvalidScene, ReadFailed
from pipeline.placement import meets

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
    return _state(cube, CubeStore(cube).record())


def append_products(cube: Path, products: Sequence[Path], *, grid: AreaGrid | None = None) -> CubeState:
    """Bring products into the cube: all of them or, on any error or crash, none. What it holds already is not read again.

    cube: the Zarr store; made where there is none. products: folders that `publish` made, of one window; their order does not matter.
    grid: merge the scenes of a day on it; the same at every append. None: the cube has the grid of its products, which is one.

    Waits while another process appends. Raises InvalidScene for a product that is none, is damaged or does not fit the cube,
    InvalidSettings where `cube` is something else or has another grid, ReadFailed and WriteFailed where a retry may help.
    """
    store = CubeStore(cube)
    store.record()  # what is no cube gets no lock beside it
    given = [PublishedProduct.of(folder, store.cube) for folder in products]
    if not given:
        return read_cube_state(cube)
    with store.held(), ExitStack() as stack:
        former = store.record()
        steps = () if former is None else former.steps
        if former is not None:
            CubeLayout.of_record(former).check_grid(store.cube, grid)
        members, passed_over = choose(steps, [product.member for product in given])
        sources = _Sources(store.cube, given, stack)
        there = {identity(member) for step in steps for member in step.members}
        fresh = {member.source: sources.open(member) for member in members if identity(member) not in there}
        if not fresh:
            store.tidy()
            return _state(cube, former, passed_over)
        layout = _layout(store.cube, former, list(fresh.values()), grid)
        if layout.resampling:
            outside = [name for name, pixels in fresh.items() if not meets(pixels.geobox, layout.fine)]
            passed_over |= {fresh[name].member.product: "lies outside the area's grid" for name in outside}
            members = tuple(member for member in members if member.source not in outside)
        plan = arrange(steps, members, layout.fine if layout.resampling else None)
        if plan.unchanged(steps):
            store.tidy()
            return _state(cube, former, passed_over)
        reordered = 0 if former is None else former.reordered + plan.reorders(steps)
        record = layout.record().model_copy(update={"reordered": reordered})
        staged = {
            index: store.stage(_key(step, record), layout.arrays, _source(step, layout, sources))
            for index, step in enumerate(plan.steps)
            if index not in plan.kept
        }
        return _state(cube, store.commit(record, layout.arrays, plan, staged), passed_over)


class _Sources:
    """Products that pixels are read from, each checked and opened once."""

    def __init__(self, cube: Path, given: Sequence[PublishedProduct], stack: ExitStack) -> None:
        self._cube, self._stack = cube, stack
        self._given = {identity(product.member): product for product in given}
        self._open: dict[tuple[str, str], ProductPixels] = {}

    def open(self, member: MemberRecord) -> ProductPixels:
        """The pixels of a product: from where it was given, else from where it was when it came into the cube."""
        key = identity(member)
        if key not in self._open:
            product = self._given.get(key) or self._again(member)
            self._open[key] = product.open()
            self._stack.callback(self._open[key].close)
        return self._open[key]

    def _again(self, member: MemberRecord) -> PublishedProduct:
        folder = folder_of(member, self._cube)
        way = "its day must be merged again: put it back, or give its folder too"
        try:
            product = PublishedProduct.of(folder, self._cube)
        except InvalidScene as error:
            raise ReadFailed(f"{folder}: product of {self._cube} is not there any more; {way}") from error
        if identity(product.member) != identity(member):
            raise ReadFailed(f"{folder}: is not the product that {self._cube} holds; {way}")
        return product


def _layout(cube: Path, former: CubeRecord | None, fresh: Sequence[ProductPixels], grid: AreaGrid | None) -> CubeLayout:
    layout = CubeLayout.of_products(fresh, grid) if former is None else CubeLayout.of_record(former)
    for product in fresh:
        layout.check(cube, product)
        layout = layout.extended(product)
    return layout


def _source(step: StepRecord, layout: CubeLayout, sources: _Sources) -> StepSource:
    opened = [sources.open(member) for member in step.members]
    return DayMosaic(opened, layout.fine, layout.resampling) if layout.resampling else opened[0]


def _key(step: StepRecord, record: CubeRecord) -> str:
    """Everything that the pixels of a step depend on, as the name of a folder."""
    parts = [
        record.model_dump(mode="json", exclude={"steps", "reordered"}),
        [identity(member) for member in step.members],
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:40]


def _state(cube: Path, record: CubeRecord | None, passed_over: Mapping[str, str] | None = None) -> CubeState:
    if record is None:
        return CubeState(cube, passed_over=passed_over or {})
    return CubeState(cube, record.steps, tuple(record.grids), passed_over or {})
