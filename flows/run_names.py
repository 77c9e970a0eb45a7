"""Names of flow runs, as a person reads them in a list. Called by Prefect when a run begins, in whose context the parameters are."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prefect.runtime import flow_run

from flows.run_tags import short_path
from pipeline.errors import InvalidSettings
from pipeline.hrefs import without_credentials


def area_run_name() -> str:
    """`decloud-aoi 2023-08-01/2023-08-10`, or `window ...` of a backfill; days in the place of a span that looks back."""
    request = _request()
    return f"{'window' if request.part_of else 'decloud-aoi'} {_days(request)}"


def backfill_run_name() -> str:
    """`backfill 2023-01-01/2023-12-31`."""
    return f"backfill {_days(_request())}"


def scene_run_name() -> str:
    """`decloud-scene T33TWL_B02.tif`: the first source's name, without the query in which a signed URL keeps its secret."""
    first = str(_request().sources[0])
    return f"decloud-scene {without_credentials(first).rstrip('/').rpartition('/')[2]}"


def train_run_name() -> str:
    """`train field (small)`: the folder, and with which settings."""
    request = _request()
    return f"train {_name(request.output)} ({short_path(request.preset_named)})"


def evaluate_run_name() -> str:
    """`evaluate field/best.safetensors on test`: the folder is called `evaluation` more often than not."""
    request = _request()
    return f"evaluate {short_path(request.checkpoint)} on {request.split}"


def pairs_run_name() -> str:
    """`build-pairs field.parquet`."""
    return f"build-pairs {_name(_request().output)}"


def scheduled_start() -> datetime:
    """When the flow run around us was to start, which a late run does long afterwards; UTC."""
    return flow_run.scheduled_start_time or datetime.now(UTC)


def _request() -> Any:
    """The request of the run that begins: each flow has one of its own."""
    return flow_run.parameters["request"]


def _days(request: Any) -> str:
    try:
        return str(request.at(scheduled_start()).dates)
    except InvalidSettings:
        # The flow itself will say what is wrong with them.
        return str(request.dates)


def _name(path: Path) -> str:
    """Of the last part, also of `.`."""
    return path.absolute().name
