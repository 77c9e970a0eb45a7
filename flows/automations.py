"""The automations that end flow runs of ours which nobody is running any more.

Where only the flow's process is killed, its worker says so at once. Where the worker went with it (a power cut, an
out-of-memory killer, a lost node), nobody is left to: the run would be `running`, or `pending`, for ever, and keep its
slot. Heartbeats come every `HEARTBEAT` seconds; after three that did not come, and for a run that was taken up and does
not begin, the server ends the run.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.events.schemas.automations import AutomationCore

TAG = "declouder"
"""Every deployment has it, and so has every flow run of it. Others' flow runs beat less often and are left alone."""
HEARTBEAT = 30
"""Seconds between heartbeats, PREFECT_FLOWS_HEARTBEAT_FREQUENCY of every deployment; the least that Prefect takes."""
SILENCE = timedelta(seconds=3 * HEARTBEAT)
"""Without a heartbeat for so long, a running flow is gone."""
START = timedelta(minutes=10)
"""A flow run that a worker took up has begun by then, a pulled image and a busy machine included."""
ZOMBIES, ORPHANS = "declouder: crash zombies", "declouder: crash orphans"
_ALL = ("Running", "Retrying", "AwaitingRetry", "Completed", "Failed", "Cancelling", "Cancelled", "Crashed")
_WAITING = ("Scheduled", "Late", "AwaitingConcurrencySlot")
_TAKEN = ("Pending", "Submitting", "InfrastructurePending")


def zombies() -> AutomationCore:
    """A flow run that runs and whose heart does not beat is crashed."""
    beat = "prefect.flow-run.heartbeat"
    # A run that is killed before its first heartbeat has at least begun.
    return _automation(
        ZOMBIES,
        after={beat, *_events("Running", "Retrying")},
        expect={beat, *_events("Completed", "Failed", "Cancelled", "Crashed", "AwaitingRetry")},
        within=SILENCE,
        message=f"no heartbeat for {SILENCE.seconds} s: worker and flow are gone; run it again, what is done is kept",
    )


def orphans() -> AutomationCore:
    """A flow run that a worker took up and that does not begin is crashed."""
    return _automation(
        ORPHANS,
        after=_events(*_TAKEN),
        expect=_events(*_ALL, *_WAITING),
        within=START,
        message=f"taken up by a worker and not begun for {START.seconds} s: the worker is gone; run it again",
    )


def ensure_automations(client: SyncPrefectClient) -> Iterator[str]:
    """Put the automations on the server, or bring those that are there up to date; a line that says which, for each."""
    for wanted in (zombies(), orphans()):
        found = client.read_automations_by_name(wanted.name)
        if not found:
            client.create_automation(wanted)
            yield f"automation {wanted.name!r}: made"
            continue
        # Whoever disabled it may have a reason; that it is off is worth saying each time.
        wanted.enabled = found[0].enabled
        client.update_automation(found[0].id, wanted)
        yield f"automation {wanted.name!r}: {'up to date' if wanted.enabled else 'up to date, but DISABLED on the server'}"


def _events(*states: str) -> set[str]:
    return {f"prefect.flow-run.{state}" for state in states}


def _automation(name: str, after: set[str], expect: set[str], within: timedelta, message: str) -> AutomationCore:
    from prefect.client.schemas.objects import StateType
    from prefect.events.actions import ChangeFlowRunState
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
    from prefect.events.schemas.events import ResourceSpecification

    trigger = EventTrigger(
        after=after,
        expect=expect,
        match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
        match_related=ResourceSpecification(
            {"prefect.resource.id": f"prefect.tag.{TAG}", "prefect.resource.role": "tag"}
        ),
        for_each={"prefect.resource.id"},
        posture=Posture.Proactive,
        threshold=1,
        within=within,
    )
    return AutomationCore(
        name=name,
        description="Ends flow runs of Declouder that nobody is running any more; made by `make deploy`.",
        trigger=trigger,
        actions=[ChangeFlowRunState(state=StateType.CRASHED, name=None, message=message)],
    )
