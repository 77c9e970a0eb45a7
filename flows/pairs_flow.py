"""`build_pairs_flow`: the catalogue of training pairs as a Prefect flow: find > measure > write.

Thin: which places there are is `catalogs.places`' business, what a pair is worth `pipeline.pairs`'. The table is written
whole or not at all, so the same request again begins again and ends in the same table. Needs
`flows.embedded.prepare_environment` beforehand where no server is configured.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from prefect import flow, get_run_logger
from prefect.artifacts import create_table_artifact
from pydantic import BaseModel, ConfigDict, Field, model_validator

from catalogs.errors import CatalogError
from catalogs.pairs import rejects_path
from flows.artifacts import attempt
from flows.embedded import plain_errors
from flows.interrupts import check
from flows.meter import metered
from flows.pairs import check_output, counted, query_of, splits_named
from flows.patience import patient_task
from flows.run_names import pairs_run_name
from flows.run_tags import tag_run
from pipeline.errors import PipelineError
from pipeline.pairs import MAX_DAYS, build_pairs


class PairsRequest(BaseModel):
    """A pair table: of what, into which file, and how it is split."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    root: str = Field(
        min_length=1,
        description="Root of the tree; with stac a static catalogue, an item, a folder of items, a STAC API (URL or name)",
    )
    layout: Literal["sen12mscr", "sen12mscr-ts", "stac"] = Field(description="What the root is")
    output: Path = Field(description="The table, pairs.parquet; what is not used goes to pairs.rejects.csv beside it")
    splits: str | None = Field(
        None,
        description="official (published lists), hash, or a YAML/JSON file {group: split}; empty: as fits the layout",
    )
    chip: Literal[256, 128] = Field(256, description="Edge of a chip, pixels; 128 with stac only")
    max_days: int = Field(MAX_DAYS, ge=0, description="Days between the two dates of a pair, at most")
    split_by: Literal["tile", "block"] = Field(
        "tile", description="stac: split whole MGRS tiles, or blocks of chips with a gap between"
    )
    aoi: str | None = Field(None, description="stac: area, west,south,east,north in degrees, or a file")
    dates: str | None = Field(None, description="stac: span of time, both days included: 2023-08-01/2023-08-31")

    @model_validator(mode="after")
    def _area_fits(self) -> Self:
        if self.layout != "stac" and (self.aoi or self.dates):
            raise ValueError(f"aoi and dates go with the layout stac; {self.layout} is read whole")
        return self


class PairsMade(BaseModel):
    """A pair table that was written."""

    table: str
    rows: int
    """Chips, good and bad."""
    good: int
    """Those that the quality gate found nothing against."""
    rejected: int
    """What could not be read or did not belong: lines of the file beside the table."""
    split_hash: str


@patient_task("pairs")
def pairs_task(request: PairsRequest) -> PairsMade:
    """Find the places, measure them, write the table."""
    from catalogs.places import find_places

    logger = get_run_logger()
    with metered("pairs-progress", request.output.name, logger) as tell:
        found = find_places(
            request.root,
            request.layout,
            splits=splits_named(request.splits),
            chip=request.chip,
            by=request.split_by,
            query=query_of(request.aoi, request.dates),
            progress=tell,
        )
        table, rejects = build_pairs(found, progress=tell, max_days=request.max_days)
        check()
        table.write(request.output, rejects)
    rows = [{"split": row["split"], "role": row["role"], **row["quality"]} for row in counted(table)]
    said = f"{request.output}: chips by split, role and quality"
    attempt(logger, "table", lambda: create_table_artifact(table=rows, key="pairs", description=said))
    good = int((table.frame["quality"] == "ok").sum())
    return PairsMade(
        table=str(request.output), rows=len(table.frame), good=good, rejected=len(rejects), split_hash=table.split_hash
    )


@flow(name="build-pairs", flow_run_name=pairs_run_name, persist_result=False)
def build_pairs_flow(request: PairsRequest) -> PairsMade:
    """Make the catalogue of training pairs, each with the verdict of the quality gate.

    Args:
        request: Of what, into which file, and how it is split
    """
    plain_errors(CatalogError, PipelineError)
    tag_run(get_run_logger(), f"layout:{request.layout}")
    check_output(request.output)
    made = pairs_task(request)
    get_run_logger().info(
        f"{made.table}: {made.rows} rows, {made.good} of them good; {made.rejected} rejected, "
        f"in {rejects_path(request.output)}; split {made.split_hash[:12]}"
    )
    return made
