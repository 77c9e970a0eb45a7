"""`python -m flows.deploy`, which is `make deploy`: everything that runs by itself, onto a Prefect server.

In this order, and nothing at all where one of the first three finds a fault: `DECLOUD_HOME`, prefect.yaml, the server;
then the work pools that are missing, the deployments, and the automations that end dead flow runs. Again is harmless.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from json import JSONDecodeError
from pathlib import Path
from typing import TYPE_CHECKING

from catalogs.errors import CatalogError
from flows.deployments import FILE, ROOT, DeploymentFile, faults, home_faults, read_deployments
from pipeline.errors import InvalidSettings, PipelineError
from pipeline.hrefs import without_credentials

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.responses import DeploymentResponse

_LENGTH = 200
"""So much of the server's answer is told where it refuses."""
LOCAL = "http://127.0.0.1:4200/api"
"""Where `make server` listens unless it is told otherwise."""


class NotDeployed(PipelineError):
    """The server does not answer, or refused a deployment; what was deployed before is as it was."""

    transient = True


def main(arguments: Sequence[str] | None = None) -> int:
    """Deploy; 0 done, 1 the server did not take it, 2 something is wrong with what was to be deployed."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.deploy",
        description="Check DECLOUD_HOME and prefect.yaml, then put work pools, deployments and automations on the server.",
    )
    parser.add_argument(
        "names", metavar="DEPLOYMENT", nargs="*", help="Only these; all of the file where none is named."
    )
    parser.add_argument("--check", action="store_true", help="Only look for faults; needs no server.")
    parser.add_argument("--file", type=Path, default=ROOT / FILE, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    try:
        for line in deploy(given.file, given.names, check_only=given.check):
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()
    except NotDeployed as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except (PipelineError, CatalogError) as error:
        sys.stderr.writelines(f"error: {line}\n" for line in str(error).splitlines())
        return 2
    return 0


def deploy(path: Path = ROOT / FILE, names: Sequence[str] = (), *, check_only: bool = False) -> Iterator[str]:
    """Deploy `names` of the file, all where empty; a line for each thing done.

    Raises InvalidSettings, with a line for each fault, before anything is touched; NotDeployed where the server does not
    answer or refuses.
    """
    file = read_deployments(path)
    wrong = [*home_faults(os.environ.get("DECLOUD_HOME")), *(f"{path.name}: {fault}" for fault in faults(file))]
    wrong += [
        f"{name}: {path.name} has no such deployment, only {', '.join(file.names)}"
        for name in names
        if name not in file.names
    ]
    # An unset DECLOUD_HOME is told once, in the words that say how to set it.
    wrong = [line for line in wrong if not line.startswith(f"{path.name}: $DECLOUD_HOME ")]
    if wrong:
        raise InvalidSettings("\n".join(wrong))
    yield f"{path}: {len(file.deployments)} deployments, no fault found"
    if check_only:
        return
    chosen = tuple(names) or file.names
    with reached(_api_url()) as client:
        from flows.pools import ensure_pools

        yield from ensure_pools(client, file.pools)
        _prefect_deploy(path, chosen)
        for name in chosen:
            there = _deployed(client, file, name)
            yield from _told(there, file, name)
            if not any(schedule.active for schedule in there.schedules):
                yield from _without_waiting(client, there)
        from flows.automations import ensure_automations

        yield from ensure_automations(client)


@contextmanager
def reached(url: str) -> Iterator[SyncPrefectClient]:
    """A client of the server that is configured, known to be at `url`. Raises NotDeployed where it does not answer."""
    from prefect.client.orchestration import get_client

    with refusals(url), get_client(sync_client=True) as client:
        error = client.api_healthcheck()
        if error is not None:
            raise NotDeployed(
                f"Prefect server {without_credentials(url)} does not answer ({_said(error)}): start one with `make server`, "
                "or name another in PREFECT_API_URL"
            )
        yield client


@contextmanager
def refusals(url: str) -> Iterator[None]:
    """Whatever the server at `url` says but yes, and what no Prefect server says, as NotDeployed, one line."""
    import httpx
    from prefect.exceptions import PrefectException
    from pydantic import ValidationError

    try:
        yield
    except (httpx.HTTPError, PrefectException, ValidationError, JSONDecodeError) as error:
        raise NotDeployed(f"Prefect server {without_credentials(url)}: {_said(error)}") from error


def _said(error: Exception) -> str:
    """One line; what httpx itself says of an answer holds the URL, with its password."""
    from pydantic import ValidationError

    if isinstance(error, ValidationError | JSONDecodeError):
        return f"is no Prefect server, or one of another version ({type(error).__name__})"
    answer = getattr(getattr(error, "http_exc", error), "response", None)
    if answer is None:
        return " ".join(str(error).split()) or type(error).__name__
    text = " ".join(answer.text.split())
    return f"{answer.status_code} {answer.reason_phrase}{f': {text[:_LENGTH]}' if text else ''}"


def _api_url() -> str:
    """The server that is configured, else the one that `make server` starts."""
    from prefect.settings import get_current_settings

    configured = get_current_settings().api.url
    if configured:
        return str(configured)
    from prefect.context import refresh_global_settings_context

    os.environ["PREFECT_API_URL"] = LOCAL
    refresh_global_settings_context()
    return LOCAL


def _prefect_deploy(path: Path, names: Sequence[str]) -> None:
    which = [word for name in names for word in ("--name", name)]
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--prefect-file", str(path), *which]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603 - our own words
    if done.returncode:
        said = [line.strip(" │╭╮╰╯─") for line in (done.stdout + done.stderr).splitlines()]
        raise NotDeployed(f"prefect deploy: {next((line for line in reversed(said) if line), 'failed')}")


def _deployed(client: SyncPrefectClient, file: DeploymentFile, name: str) -> DeploymentResponse:
    """What the server now has under a name. Raises NotDeployed where it is not what was deployed."""
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName

    found = client.read_deployments(deployment_filter=DeploymentFilter(name=DeploymentFilterName(any_=[name])))
    entry = file.deployments[file.names.index(name)]
    mine = [one for one in found if one.entrypoint == entry["entrypoint"]]
    if len(mine) != 1:
        raise NotDeployed(f"{name}: the server has {len(mine)} deployments of that name and entrypoint after deploying")
    if "{{" in str(mine[0].pull_steps):
        raise NotDeployed(
            f"{name}: the server keeps a placeholder where workers look for the flow ({mine[0].pull_steps}): set the variable, "
            "and deploy again"
        )
    return mine[0]


def _told(there: DeploymentResponse, file: DeploymentFile, name: str) -> Iterator[str]:
    schedules = {str(schedule.slug): schedule for schedule in there.schedules}
    on = [slug for slug, schedule in schedules.items() if schedule.active]
    runs = f"runs by itself: {', '.join(on)}" if on else "runs when asked"
    yield f"deployment {name}: work pool {there.work_pool_name}; {runs}"
    for slug in sorted(set(schedules) - set(file.slugs(name))):
        state = "still ACTIVE" if schedules[slug].active else "paused"
        yield f"warning: {name}: schedule {slug} is on the server and not in {file.path.name}, {state}: `prefect deployment schedule delete`"


def _without_waiting(client: SyncPrefectClient, there: DeploymentResponse) -> Iterator[str]:
    """Take away what a schedule that is paused now had planned: Prefect keeps the runs that are due already, and would run them."""
    from prefect.client.schemas.filters import (
        FlowRunFilter,
        FlowRunFilterDeploymentId,
        FlowRunFilterState,
        FlowRunFilterStateType,
    )
    from prefect.client.schemas.objects import StateType
    from prefect.client.schemas.sorting import FlowRunSort
    from prefect.exceptions import ObjectNotFound

    planned = FlowRunFilter(
        deployment_id=FlowRunFilterDeploymentId(any_=[there.id]),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
    )
    gone = left = 0
    # The server names 200 at once, or what it is configured to.
    while page := client.read_flow_runs(flow_run_filter=planned, sort=FlowRunSort.ID_DESC, offset=left):
        for run in page:
            if not run.auto_scheduled:
                left += 1
                continue
            # Gone meanwhile is as good.
            with suppress(ObjectNotFound):
                client.delete_flow_run(run.id)
            gone += 1
    if gone:
        yield f"deployment {there.name}: {gone} planned runs of its paused schedules taken away"


if __name__ == "__main__":
    sys.exit(main())
