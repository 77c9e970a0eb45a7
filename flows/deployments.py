"""`prefect.yaml`, read as it will be deployed, and what is wrong with it.

Prefect drops a key that it does not know without a word, stores the placeholder of a variable that is not set, keeps
schedules that are no longer in the file, and takes a schedule whose run can only fail. All of that is found here, before
anything is deployed.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from catalogs.dates import parse_dates
from catalogs.errors import CatalogError
from flows.automations import HEARTBEAT, TAG
from flows.lookback import absolute_dates
from pipeline.errors import InvalidSettings

if TYPE_CHECKING:
    from prefect.flows import Flow

FILE = "prefect.yaml"
ROOT = Path(__file__).resolve().parents[1]
"""The repository: deployments are deployed from here, and run here."""
_VARIABLE = re.compile(r"\{\{\s*\$(\w+)\s*\}\}")
STRATEGIES = ("ENQUEUE", "CANCEL_NEW")
_FILE = {"name", "prefect-version", "pull", "definitions", "deployments"}
_DEPLOYMENT = {"name", "description", "entrypoint", "tags", "work_pool", "concurrency_limit"}
_OPTIONAL = {"schedules", "parameters", "triggers", "version"}
_POOL = {"name", "work_queue_name", "job_variables"}
_LIMIT = {"limit", "collision_strategy"}
_TIMES = {"cron", "interval", "rrule"}
_SCHEDULE = {"slug", "active", "parameters", "timezone", "anchor_date", "day_or"} | _TIMES
_KINDS = {"work_pool": dict, "tags": list, "schedules": list, "triggers": list, "parameters": dict}
_EMPTY = {"schedules", "triggers", "parameters"}
"""What may be there without a value: Prefect takes it for none."""
_TRIGGER = {
    "type", "name", "enabled", "match", "match_related", "after", "expect", "for_each", "posture", "threshold", "within",
    "parameters", "schedule_after", "job_variables",
}  # fmt: skip


@dataclass(frozen=True)
class DeploymentFile:
    """`prefect.yaml` with the variables of an environment put in."""

    path: Path
    deployments: tuple[Mapping[str, Any], ...]
    unset: tuple[str, ...]
    """Variables that it names and the environment does not have."""
    unknown: tuple[str, ...]
    """Keys at its top that mean nothing."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the deployments, in the order of the file."""
        return tuple(str(entry.get("name", "")) for entry in self.deployments)

    @property
    def pools(self) -> tuple[str, ...]:
        """Work pools that the deployments name, each once."""
        pools = [entry.get("work_pool") for entry in self.deployments]
        return tuple(dict.fromkeys(str(pool.get("name", "")) for pool in pools if isinstance(pool, dict)))

    def slugs(self, name: str) -> tuple[str, ...]:
        """Slugs of a deployment's schedules."""
        entry = self.deployments[self.names.index(name)]
        return tuple(str(schedule.get("slug", "")) for schedule in entry.get("schedules") or ())


def read_deployments(path: Path = ROOT / FILE, environ: Mapping[str, str] | None = None) -> DeploymentFile:
    """Read the file. Raises InvalidSettings where it is not there or no YAML."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidSettings(f"{path}: {error.strerror or error}; deploy from the repository's root") from None
    except yaml.YAMLError as error:
        raise InvalidSettings(f"{path}: no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(document, dict) or not isinstance(document.get("deployments"), list):
        raise InvalidSettings(f"{path}: holds no list of deployments")
    known = os.environ if environ is None else environ
    unset: set[str] = set()
    _filled(document.get("pull"), known, unset)
    filled = _filled(document["deployments"], known, unset)
    return DeploymentFile(
        path,
        tuple(entry if isinstance(entry, dict) else {"name": str(entry)} for entry in filled),
        tuple(sorted(unset)),
        tuple(_unknown("the file", document, _FILE)),
    )


def faults(file: DeploymentFile) -> Iterator[str]:
    """What is wrong, one line each; the flows are loaded to see whether the parameters fit."""
    for name in file.unset:
        yield f"${name} is not set: Prefect would store the placeholder. Set it: export {name}=..."
    yield from file.unknown
    for name in {name for name in file.names if file.names.count(name) > 1}:
        yield f"{name}: deployed twice; the later one would replace the earlier"
    for entry in file.deployments:
        name = entry.get("name", "a deployment without name")
        yield from (f"{name}: {fault}" for fault in _entry_faults(entry))


def home_faults(home: str | None) -> Iterator[str]:
    """What is wrong with the folder in which the workers will run the flows."""
    if not home:
        yield 'DECLOUD_HOME is not set: workers run the flows there. From the repository: export DECLOUD_HOME="$PWD"'
    elif not Path(home).is_absolute():
        yield f"DECLOUD_HOME {home}: workers start elsewhere, so give an absolute path"
    elif not (Path(home) / FILE).is_file() or not (Path(home) / "flows" / "__init__.py").is_file():
        yield f"DECLOUD_HOME {home}: no checkout of Declouder ({FILE}, flows) is there; deploy where the workers' path exists"


def _filled(value: Any, environ: Mapping[str, str], unset: set[str]) -> Any:
    """`value` with every `{{ $NAME }}` in it replaced, as Prefect does; names that the environment lacks go to `unset`."""
    if isinstance(value, dict):
        return {key: _filled(one, environ, unset) for key, one in value.items()}
    if isinstance(value, list):
        return [_filled(one, environ, unset) for one in value]
    if not isinstance(value, str):
        return value
    unset |= {name for name in _VARIABLE.findall(value) if not environ.get(name)}
    return _VARIABLE.sub(lambda match: environ.get(match[1]) or match[0], value)


def _unknown(where: str, given: Mapping[str, Any], known: set[str]) -> Iterator[str]:
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, 1, 0.6)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(known))}"
            yield f"{where}: {key} means nothing to Prefect, which would drop it in silence: {hint}"


def _entry_faults(entry: Mapping[str, Any]) -> Iterator[str]:
    yield from _unknown("deployment", entry, _DEPLOYMENT | _OPTIONAL)
    missing = sorted(_DEPLOYMENT - set(entry))
    if missing:
        yield f"{', '.join(missing)} missing"
        return
    misshapen = list(_misshapen(entry))
    if misshapen:
        yield from misshapen
        return
    pool, limit = entry["work_pool"], entry["concurrency_limit"] or {}
    yield from _unknown("work_pool", pool, _POOL)
    if TAG not in entry["tags"]:
        yield f"tags without {TAG}: the zombie automation would not know its flow runs"
    beat = ((pool.get("job_variables") or {}).get("env") or {}).get("PREFECT_FLOWS_HEARTBEAT_FREQUENCY")
    if beat != str(HEARTBEAT):
        yield f'work_pool: job_variables: env: PREFECT_FLOWS_HEARTBEAT_FREQUENCY must be "{HEARTBEAT}", else runs are taken for zombies'
    if isinstance(limit, dict):
        yield from _unknown("concurrency_limit", limit, _LIMIT)
    if (
        not isinstance(limit, dict)
        or limit.get("collision_strategy") not in STRATEGIES
        or not isinstance(limit.get("limit"), int)
    ):
        yield f"concurrency_limit: give a limit and a collision_strategy, one of {', '.join(STRATEGIES)}"
    for trigger in entry.get("triggers") or ():
        yield from _unknown("trigger", trigger, _TRIGGER)
    try:
        flow = _loaded(entry["entrypoint"])
    except InvalidSettings as error:
        yield str(error)
        return
    yield from _schedule_faults(entry, flow)


def _misshapen(entry: Mapping[str, Any]) -> Iterator[str]:
    """What is no list or no mapping and has to be one."""
    for key, kind in _KINDS.items():
        value = entry.get(key)
        if key in entry and not isinstance(value, kind) and not (value is None and key in _EMPTY):
            yield f"{key}: {value!r} is no {'list' if kind is list else 'mapping'}"
        elif key in ("schedules", "triggers"):
            yield from (f"{key}: {one!r} is no mapping" for one in value or () if not isinstance(one, dict))
    pool = entry["work_pool"]
    variables = pool.get("job_variables") if isinstance(pool, dict) else None
    env = variables.get("env") if isinstance(variables, dict) else None
    parameters = [one.get("parameters") for one in _mappings(entry.get("schedules"))]
    for where, one in [
        ("work_pool: job_variables", variables),
        ("work_pool: job_variables: env", env),
        *(("schedules: parameters", one) for one in parameters),
    ]:
        if one is not None and not isinstance(one, dict):
            yield f"{where}: {one!r} is no mapping"


def _mappings(values: Any) -> list[Mapping[str, Any]]:
    """Those of a list that are mappings; none where it is no list."""
    return [value for value in values if isinstance(value, dict)] if isinstance(values, list) else []


def _schedule_faults(entry: Mapping[str, Any], flow: Flow[..., Any]) -> Iterator[str]:
    if "schedules" in entry and not entry["schedules"]:
        yield "schedules is empty, which removes none from the server: keep each with `active: false`"
    schedules = entry.get("schedules") or ()
    slugs = [str(schedule.get("slug")) for schedule in schedules]
    for slug in dict.fromkeys(slugs):
        if slugs.count(slug) > 1:
            yield f"schedule {slug}: two have this slug"
    for schedule, slug in zip(schedules, slugs, strict=True):
        yield from _unknown(f"schedule {slug}", schedule, _SCHEDULE)
        if not schedule.get("slug") or not isinstance(schedule.get("active"), bool):
            yield f"schedule {slug}: give a slug and active: true or false, else the server keeps what it had before"
        if len(_TIMES & set(schedule)) != 1:
            yield f"schedule {slug}: give one of {', '.join(sorted(_TIMES))}"
        else:
            yield from (f"schedule {slug}: {fault}" for fault in _time_faults(schedule))
        parameters = {**(entry.get("parameters") or {}), **(schedule.get("parameters") or {})}
        yield from (f"schedule {slug}: {fault}" for fault in _parameter_faults(flow, parameters))


def _time_faults(schedule: Mapping[str, Any]) -> Iterator[str]:
    """Why the server would not take a schedule."""
    from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule, RRuleSchedule
    from pydantic import TypeAdapter, ValidationError

    kind = next(name for name in sorted(_TIMES) if name in schedule)
    model: Any = {"cron": CronSchedule, "interval": IntervalSchedule, "rrule": RRuleSchedule}[kind]
    given = {name: schedule[name] for name in (kind, "timezone", "day_or", "anchor_date") if name in schedule}
    try:
        TypeAdapter(model).validate_python(given)
    except (ValidationError, ValueError) as error:
        said = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        yield f"{kind} {schedule[kind]}, timezone {schedule.get('timezone', 'UTC')}: {' '.join(said.removeprefix('Value error, ').split())}"


def _loaded(entrypoint: str) -> Flow[..., Any]:
    """The flow of an entrypoint. Raises InvalidSettings."""
    from prefect.exceptions import MissingFlowError, ScriptError
    from prefect.flows import load_flow_from_entrypoint

    file, _, name = str(entrypoint).partition(":")
    if not name or not (ROOT / file).is_file():
        raise InvalidSettings(f"{entrypoint}: no such flow; write PATH.py:FUNCTION, seen from the repository's root")
    try:
        return load_flow_from_entrypoint(f"{ROOT / file}:{name}")
    except (MissingFlowError, ScriptError) as error:
        raise InvalidSettings(f"{entrypoint}: no such flow ({' '.join(str(error).split())})") from None


def _parameter_faults(flow: Flow[..., Any], parameters: Mapping[str, Any]) -> Iterator[str]:
    """Why a run with these parameters could only fail."""
    from prefect.exceptions import ParameterTypeError

    from catalogs.aoi import parse_aoi

    if "request" not in parameters:
        yield "has no parameters: a run would not know its area; write them under `parameters: request:`"
        return
    try:
        request = flow.validate_parameters(dict(parameters))["request"]
        if getattr(request, "aoi", None) is not None:
            parse_aoi(request.aoi)
        if getattr(request, "dates", None) is not None:
            parse_dates(absolute_dates(request.dates, datetime.now(UTC)))
    except (ParameterTypeError, CatalogError, InvalidSettings) as error:
        yield f"parameters do not fit: {' '.join(str(error).split())}"
