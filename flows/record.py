"""`RunRecord`: what a run was asked for, kept beside its journal so that `status --retry-failed` can ask for it again."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from catalogs.hrefs import is_remote
from flows.credentials import given
from flows.request import AreaRequest, SceneRequest, make_request
from pipeline.address import output_url
from pipeline.errors import InvalidSettings, WriteFailed
from pipeline.folders import RUNS
from pipeline.lines import write_document
from pipeline.storage import storage_of


@dataclass(frozen=True)
class RunRecord:
    """`OUT/runs/<run-id>.json`."""

    run: str
    request: AreaRequest | SceneRequest
    withheld: tuple[str, ...] = ()
    """URLs that were given with a query or credentials, as they are kept: without."""


def record_path(output: Path, run: str) -> Path:
    """Where the record of a run lies."""
    return output / RUNS / f"{run}.json"


def write_record(run: str, request: AreaRequest | SceneRequest) -> RunRecord:
    """Keep a request, without credentials. Raises WriteFailed where the output cannot be written."""
    stored = request.stored()
    pairs = zip(map(given, _hrefs(request)), _hrefs(stored), strict=True)
    record = RunRecord(run, stored, tuple(kept for full, kept in pairs if is_remote(full) and full != kept))
    path = record_path(request.output, run)
    document = {
        "run": run,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "declouder": metadata.version("declouder"),
        "request": record.request.model_dump(mode="json"),
        "withheld": record.withheld,
        "flow_runs": _flow_runs(),
    }
    try:
        write_document(path, document)
    except OSError as error:
        raise WriteFailed(
            f"--output {request.output}: cannot be written to ({path.name}: {error.strerror or error}); choose another one"
        ) from error
    if output_url(request.output) is not None:
        # Also the first thing that is written to a bucket: one that may only be read is told before anything is computed.
        storage_of(request.output).keep(path)
    return record


def read_record(output: Path, run: str) -> RunRecord:
    """The record of a run. Raises InvalidSettings where it is not there or not readable."""
    path = record_path(output, run)
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        request = make_request({**document["request"], "output": output})
        withheld = tuple(map(str, document.get("withheld", ())))
    except (OSError, ValueError, KeyError, TypeError, InvalidSettings) as error:
        raise InvalidSettings(
            f"{path}: the run's parameters cannot be read ({error}); run `decloud run` again with them"
        ) from None
    return RunRecord(run, request, withheld)


def runs_of(output: Path, flow_run: str) -> frozenset[str]:
    """Ids of the runs that a Prefect flow run, or one inside it, left in a product folder."""
    found = set()
    for path in (output / RUNS).glob("*.json"):
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(document, dict) and flow_run in document.get("flow_runs", ()):
            found.add(path.stem)
    return frozenset(found)


def _flow_runs() -> list[str]:
    """Ids of the Prefect flow runs around us: the innermost, and the one that this process was started for.

    Asks only a Prefect that is loaded already: without one there is no flow run.
    """
    if "prefect" not in sys.modules:
        return []
    from prefect.runtime import flow_run

    return sorted({one for one in (flow_run.id, os.environ.get("PREFECT__FLOW_RUN_ID")) if one})


def _hrefs(request: AreaRequest | SceneRequest) -> tuple[str, ...]:
    return (request.catalog,) if isinstance(request, AreaRequest) else request.sources
