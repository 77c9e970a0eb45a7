"""`BackfillRequest`: everything that a backfill was asked for."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, time
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, ValidationError, ValidationInfo, field_validator

from catalogs.dates import parse_dates
from catalogs.hrefs import absolute
from flows.request import AreaRequest, CatalogRequest, one_line
from flows.windows import Window, split, step_days
from pipeline.errors import InvalidSettings
from pipeline.folders import BACKFILLS, RUNS


def _known_step(step: str) -> str:
    try:
        step_days(step)
    except InvalidSettings as error:
        raise ValueError(str(error).partition(": ")[2]) from None
    return step


class BackfillRequest(CatalogRequest):
    """A time series over an area: its windows, oldest first."""

    kind: Literal["backfill"] = Field("backfill", description="Which request this is; leave it as it is")
    step: Annotated[str, AfterValidator(_known_step)] = Field(
        "month", description="Length of a window: month (of the calendar), or a number of days, for example 10d"
    )
    cube: Path | None = Field(
        None, description="Zarr store in which the products are stacked along time, window by window"
    )
    grid: str | None = Field(
        None, description="Grid of the cube, for example EPSG:32633,10, or auto; that of the scenes if unset"
    )
    windows: Literal["auto", "inline", "deployed"] = Field(
        "auto",
        description="Where windows run: inline (in the process of the backfill), deployed (each a run of the deployment `window`), "
        "or auto (deployed where the server has that deployment)",
    )

    @field_validator("cube")
    @classmethod
    def _apart(cls, cube: Path | None, info: ValidationInfo) -> Path | None:
        """A cube that was the folder of the products, or held it, would take its place when it changes."""
        if cube is None or "output" not in info.data:
            return cube
        store, output = Path(absolute(cube)), Path(absolute(info.data["output"]))
        if store in (output, *output.parents) or store in (output / RUNS, output / BACKFILLS):
            raise ValueError(
                f"that is where the products are; give it a name of its own, for example {output / 'cube.zarr'}"
            )
        return cube

    @property
    def id(self) -> str:
        """Ten digits that are the same for the same series, whatever it may use and wherever its folder lies."""
        named = self.stored().model_dump(mode="json", include={"catalog", "aoi", "dates", "settings", "step", "only"})
        return hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()[:10]

    def split(self, moment: datetime) -> tuple[Window, ...]:
        """Its windows, oldest first, up to the day of `moment`: later ones hold nothing yet.

        Raises InvalidQuery for dates that are none or crossed, InvalidSettings for dates after that day.
        """
        start, end = parse_dates(self.dates)
        today = datetime.combine(moment.astimezone(UTC).date(), time.max, UTC)
        if start > today:
            raise InvalidSettings(
                f"--dates {self.dates}: begin after today, {today:%Y-%m-%d} (UTC); give dates that have been"
            )
        return split(start, min(end, today), self.step)

    def window(self, window: Window) -> AreaRequest:
        """The run of one of its windows. Its scenes' other dates are searched beyond it, on both sides."""
        names = ("output", "settings", "resources", "overwrite", "only", "catalog", "aoi", "refresh")
        shared: dict[str, Any] = {name: getattr(self, name) for name in names}
        return AreaRequest(**shared, dates=window.dates, part_of=self.id)

    def located(self) -> Self:
        """As in `CatalogRequest`, with the cube."""
        update = {} if self.cube is None else {"cube": Path(absolute(self.cube))}
        return super().located().model_copy(update=update)


def make_backfill_request(values: dict[str, Any]) -> BackfillRequest:
    """A request from plain values. Raises InvalidSettings, one line that names the option, for a value that does not fit."""
    try:
        return BackfillRequest.model_validate(values)
    except ValidationError as error:
        raise InvalidSettings(one_line(error)) from None
