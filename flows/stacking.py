"""`Stack`: the products of a backfill on their way into its cube, window by window."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from catalogs.aoi import parse_aoi
from flows.backfill_request import BackfillRequest
from flows.ledger import WindowLine
from pipeline.address import output_url
from pipeline.errors import InvalidScene, InvalidSettings, PipelineError

if TYPE_CHECKING:
    from pipeline.cube import AreaGrid


@dataclass
class Stack:
    """A cube that grows along time. What comes late, because its window was mended, finds its place among the others."""

    cube: Path
    output: Path
    """Folder of the products."""
    grid: AreaGrid | None = None
    """Grid of the cube; None for that of the scenes."""
    problems: dict[str, str] = field(default_factory=dict)
    """Windows that it lacks -> why; the oldest first."""
    passed_over: dict[str, str] = field(default_factory=dict)
    """Ids of products that it does not take -> why."""

    @property
    def problem(self) -> str:
        """Why it lacks a window, empty where it lacks none: one line, of the first of them."""
        if not self.problems:
            return ""
        window, reason = next(iter(self.problems.items()))
        more = len(self.problems) - 1
        return f"{window}: {reason}" + (f" ({more} more window{'s' * (more > 1)})" if more else "")

    @classmethod
    def of(cls, request: BackfillRequest) -> Stack | None:
        """The cube that a request asks for, None where it asks for none.

        Raises InvalidSettings for a grid without a cube, a grid that is none, and a store that is something else or has another grid.
        """
        if request.cube is None:
            if request.grid is not None:
                raise InvalidSettings("--grid is the cube's: give --cube too")
            return None
        if output_url(request.output) is not None:
            raise InvalidSettings(
                "--cube stacks products of a folder: give an --output that is one, or leave --cube away"
            )
        from pipeline.cube import AreaGrid
        from pipeline.cube_layout import CubeLayout
        from pipeline.cube_store import CubeStore

        grid = AreaGrid.parse(request.grid, parse_aoi(request.aoi)) if request.grid is not None else None
        there = next(folder for folder in request.cube.absolute().parents if folder.exists())
        if not os.access(there, os.W_OK):
            raise InvalidSettings(f"{request.cube}: no permission to write in {there}: choose another --cube")
        former = CubeStore(request.cube).record()
        if former is not None:
            CubeLayout.of_record(former).check_grid(request.cube, grid)
        return cls(request.cube, Path(request.output), grid)

    def add(self, line: WindowLine) -> None:
        """Append the products of a window that the cube lacks: all of them or none; `problems` says why where it is none.

        Raises InvalidSettings where the cube itself cannot be what was asked for.
        """
        products = [self.output / scene.product for scene in line.scenes if scene.product]
        if not products:
            return
        from pipeline.cube import append_products

        try:
            told: Mapping[str, str] = append_products(self.cube, products, grid=self.grid).passed_over
        except PipelineError as error:
            if not (error.transient or isinstance(error, InvalidScene)):
                raise
            self.problems[line.window] = " ".join(str(error).split())
        else:
            self.passed_over |= told
