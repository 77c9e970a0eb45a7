"""What is written into a run's journal when Prefect learns that the flow run around it was killed or cancelled.

The process that ran the scenes cannot say so any more, and on another machine its number means nothing. So whoever
notices (the worker, or the flow's own process on its way out) closes the lines that it left open. Prefect calls a hook
with these three arguments, by these names: `(flow, flow_run, state)`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from prefect.client.schemas.objects import FlowRun, State
from prefect.flows import Flow

from flows.record import runs_of
from pipeline.address import output_path
from pipeline.errors import WriteFailed
from pipeline.journal import Entry, Journal, last_lines

_log = logging.getLogger("prefect.flow_runs.hooks")
_OPEN = ("planned", "running")


def note_crashed(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:  # noqa: ARG001 - Prefect's names
    """Mark the scenes that a killed flow run left open as interrupted; blocks so far are kept."""
    _note(flow_run, state, "crashed")


def note_cancelled(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:  # noqa: ARG001
    """Mark the scenes that a cancelled flow run left open as interrupted; blocks so far are kept."""
    _note(flow_run, state, "was cancelled")


def _note(flow_run: FlowRun, state: State[Any], ended: str) -> None:
    output = _output(flow_run.parameters)
    if output is None:
        return
    said = " ".join((state.message or "").split())
    reason = f"flow run {flow_run.name} {ended}{f' ({said})' if said else ''}; run again, finished blocks are kept"
    for entry in list(left_open(output, str(flow_run.id))):
        try:
            Journal(output, entry.run).write(entry.scene, "interrupted", reason)
        except WriteFailed as error:
            # A line that is missing costs no product: a reader takes `running` of a process that is gone for interrupted.
            _log.warning(str(error))
            return


def left_open(output: Path, flow_run: str) -> Iterator[Entry]:
    """The last lines of scenes that a flow run planned or began and did not end, and that no later run has taken up."""
    runs = runs_of(output, flow_run)
    for entry in last_lines(output).values():
        if entry.run in runs and entry.state in _OPEN:
            yield entry


def _output(parameters: Mapping[str, Any]) -> Path | None:
    """The product folder of a request; None where there is none on this machine."""
    request = parameters.get("request")
    output = request.get("output") if isinstance(request, Mapping) else getattr(request, "output", None)
    folder = output_path(output) if output else None
    return folder if folder is not None and folder.is_dir() else None
