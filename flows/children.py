"""`DeployedWindows`: windows of a backfill as runs of the deployment `window`, each on whichever worker takes it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic, sleep
from typing import cast
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.deployments import run_deployment
from prefect.exceptions import CancelledRun, ExternalSignal, ObjectNotFound, PrefectException
from prefect.runtime import flow_run as around
from prefect.states import Cancelling

from flows.ledger import Ledger, WindowLine
from flows.request import AreaRequest
from flows.settled import settled
from flows.showing import may_answer
from pipeline.address import output_url

WINDOW = "decloud-aoi/window"
"""Flow and deployment of one window."""
ATTEMPTS = 3
"""Runs of a window of which each crashed: its worker was killed, or the machine went down."""
POLL = 2.0
"""Seconds between two looks at a run."""
PATIENCE = 60.0
"""Seconds after which a run that no worker has taken is mentioned."""
ABSENCE = 900.0
"""Seconds that the server may be away while a window runs; each of our questions is repeated by Prefect's client before it counts."""


@dataclass(frozen=True)
class Deployed:
    """The deployment as the server has it."""

    id: UUID
    pool: str
    problem: str = ""
    """Why a backfill must not use it."""


def find_windows() -> Deployed | None:
    """The deployment `window`, None where the server has none."""
    with get_client(sync_client=True) as client:
        try:
            deployment = client.read_deployment_by_name(WINDOW)
        except ObjectNotFound:
            return None
        pool = deployment.work_pool_name or ""
        return Deployed(deployment.id, pool, _deadlock(client, pool))


def _deadlock(client: SyncPrefectClient, pool: str) -> str:
    """One line where the flow run around us holds the only slot that its windows could run in."""
    if not around.id:
        return ""
    if client.read_flow_run(UUID(around.id)).work_pool_name != pool:
        return ""
    if client.read_work_pool(pool).concurrency_limit != 1:
        return ""
    return f"this run holds the only slot of the work pool {pool}, which its windows would wait for: deploy backfill to another pool"


@dataclass(frozen=True)
class DeployedWindows:
    """Runs a window by its deployment, and waits for it; called in a flow run."""

    deployed: Deployed
    logger: logging.Logger | logging.LoggerAdapter[logging.Logger]

    def __call__(self, window: AreaRequest) -> None:
        """Run a window in which there is something to do. How it ended stands in the ledger: written by it, or here where it could not.

        A run that crashed is started again. One key of idempotency gives one run for ever, also where that failed, so the key holds the
        number of the attempt; and as it holds the id of our own run too, a later backfill begins afresh, while this one, when Prefect
        retries it, finds the runs that it had started.
        """
        ledger = Ledger(window.output, window.part_of)
        before = ledger.latest().get(window.dates)
        # It runs in a folder of its own.
        window = window.located()
        done = settled(window)
        if done is not None:
            ledger.write(window.dates, "done", done, reason=done.note)
            return
        for attempt in range(1, ATTEMPTS + 1):
            started = run_deployment(
                self.deployed.id,
                parameters={"request": window.model_dump(mode="json")},
                flow_run_name=f"window {window.dates}",
                idempotency_key=f"{around.id}:{window.dates}:{attempt}",
                timeout=0,
            )
            run = cast("FlowRun", started)  # a coroutine only where an event loop runs around us
            known = run.state is not None and run.state.is_final()
            with self._cancelled_too(run):
                run = self._ended(run)
            state = run.state
            if state is not None and state.is_completed():
                if known and before is not None and before.state == "done":
                    # Prefect has started us again: the window was done by then, and its line is of the time before.
                    ledger.repeat(before)
                    return
                self._note_elsewhere(window, run, before)
                return
            line = f"run {run.name} of {window.dates} ended {state.name if state else 'without a state'}: {state.message if state else ''}"
            self.logger.warning(line)
            crashed = state is not None and state.is_crashed()
            if not (crashed or known):
                self._note(window, line, before)
                return
        self._note(window, line, before)

    def _ended(self, run: FlowRun) -> FlowRun:
        """The run when it is over. Raises what the client does where the server refuses, or is away for longer than ABSENCE."""
        begun, told = monotonic(), False
        answered = begun
        with get_client(sync_client=True) as client:
            while True:
                try:
                    run = client.read_flow_run(run.id)
                except httpx.HTTPError as error:
                    # The window runs on without us, and without the server.
                    if not may_answer(error) or monotonic() - answered > ABSENCE:
                        raise
                    self.logger.warning(f"run {run.name}: the server does not say how it is ({error}); asked again")
                    sleep(POLL)
                    continue
                answered = monotonic()
                if run.state is not None and run.state.is_final():
                    return run
                waits = run.start_time is None and monotonic() - begun > PATIENCE
                if waits and not told:
                    told = True
                    self.logger.warning(
                        f"run {run.name} still waits: does a worker of the pool {self.deployed.pool} run?"
                    )
                sleep(POLL)

    def _note_elsewhere(self, window: AreaRequest, run: FlowRun, before: WindowLine | None) -> None:
        """Write the line of a window that was done where its lines do not reach us: with products in a bucket, on another machine."""
        ledger = Ledger(window.output, window.part_of)
        last = ledger.latest().get(window.dates)
        if output_url(window.output) is not None and (last is None or last == before):
            ledger.write(
                window.dates,
                "done",
                reason=f"all scenes done by flow run {run.name}, which kept their list where it ran",
            )

    def _note(self, window: AreaRequest, line: str, before: WindowLine | None) -> None:
        """Close the ledger's entry of a window that could not do so itself; `before` was its last before the window was run."""
        ledger = Ledger(window.output, window.part_of)
        last = ledger.latest().get(window.dates)
        if last is None or last == before or last.state in ("running", "done"):
            ledger.write(window.dates, "interrupted", reason=line)

    @contextmanager
    def _cancelled_too(self, run: FlowRun) -> Iterator[None]:
        """Around waiting for a run: where the wait is ended from outside, by ctrl-C or by Prefect, so is the run."""
        try:
            yield
        except (KeyboardInterrupt, SystemExit, ExternalSignal, CancelledRun):
            try:
                with get_client(sync_client=True) as client:
                    client.set_flow_run_state(run.id, Cancelling(message="the backfill that it belongs to was stopped"))
            except (httpx.HTTPError, PrefectException, OSError, RuntimeError) as error:
                self.logger.warning(
                    f"run {run.name} could not be cancelled ({error}): cancel it by hand, or it runs on"
                )
            raise
