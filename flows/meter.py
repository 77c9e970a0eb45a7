"""`Meter`: how far a long task is, as a progress artifact in Prefect, kept up to date by a thread of its own.

Whoever works only leaves word with a `Reached`; the thread looks there every few seconds and asks the server once, with little patience.
So a server that is slow or away costs a line in the log, and no time but GRACE at the end of a task, which nobody waits where it is known
to be away; and what takes a second or two makes no call at all.
"""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from types import MappingProxyType, TracebackType
from typing import Self
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.exceptions import PrefectException
from prefect.utilities.context import get_task_and_flow_run_ids

from flows import showing
from flows.interrupts import checked
from flows.scene_log import Log, plain
from flows.stages import Stages
from flows.summary import SceneSummary
from flows.train_watch import Lines
from pipeline.progress import PLAN, RESTORE, Progress, silent

AFTER = 3.0
"""Seconds after which a task is a long one."""
EVERY = 5.0
"""Seconds between two calls at least."""
GRACE = 2.0
"""Seconds that the end of a task waits for its last call."""

Look = Callable[[], tuple[float, str]]
"""How far the task is: a share 0..1, and words."""

_ENCODE = "encode"
SCENE = MappingProxyType({RESTORE: 0.6, "write": 0.3, _ENCODE: 0.1})
"""Shares of a scene's stages: they overlap, and only a scene's own course tells how long each of them takes."""


class Reached:
    """How far a task has come, from what it tells as a `Progress`, perhaps in several threads at once.

    weights: stage -> its share of the whole, for a task whose stages are known before; else the share is that of the stage under way.
    """

    def __init__(self, weights: Mapping[str, float] | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._weights, self._clock = weights, clock
        self._stages = Stages(clock)
        self._shares: dict[str, float] = {}
        self._lock = threading.Lock()

    def tell(self, stage: str, done: int, total: int) -> None:
        """A `Progress`."""
        self._stages.tell(stage, done, total)
        with self._lock:
            if stage == PLAN:
                # Where no tile needs the network, that stage is over before it begins.
                self._shares[RESTORE] = 0.0 if done else 1.0
                return
            self._shares[stage] = max(self._shares.get(stage, 0.0), min(done / max(total, 1), 1.0))
            if stage == _ENCODE:
                # All pixels are there, whatever was counted: a run that goes on after a stop has tiles already.
                self._shares |= dict.fromkeys((RESTORE, "write"), 1.0)

    def look(self) -> tuple[float, str]:
        """A `Look`: where nothing moves, the time left grows."""
        stage = self._stages.current()
        if stage is None:
            return 0.0, "begins"
        with self._lock:
            if self._weights is None:
                share = self._shares.get(stage.name, 0.0)
            else:
                share = sum(weight * self._shares.get(name, 0.0) for name, weight in self._weights.items())
        return share, stage.said(self._clock())


class Meter:
    """A progress artifact of the run around us, as a context manager; as `look` says until `end` is called.

    One of a key for all tasks of a kind: the page of artifacts shows the one that moves, each run its own.
    """

    def __init__(self, key: str, name: str, look: Look, log: Log) -> None:
        """name: what is under way, before each description. log: told once where the server does not answer."""
        self._key, self._name, self._look, self._log = key, name, look, log
        self._ended: tuple[float, str] | None = None
        self._over = threading.Event()
        self._shown: tuple[float, str] | None = None
        self._id: UUID | None = None
        self._told = False

    def __enter__(self) -> Self:
        self._task_run, self._flow_run = get_task_and_flow_run_ids()
        inside = contextvars.copy_context()
        self._thread = threading.Thread(
            target=inside.run, args=(self._keep,), name=f"meter of {self._key}", daemon=True
        )
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.end(f"stopped: {' '.join(str(error).split()) or type(error).__name__}", self._look()[0])
        elif self._ended is None:
            self.end("done")
        self._over.set()
        self._thread.join(0 if showing.silent() else GRACE)

    def end(self, said: str, share: float = 1.0) -> None:
        """How the task ended, and with which share of its work."""
        self._ended = self._ended or (share, said)

    def _keep(self) -> None:
        if self._over.wait(AFTER):
            return
        with ExitStack() as connection:
            client: SyncPrefectClient | None = None
            over = False
            while True:
                with self._noted():
                    if client is None:
                        client = connection.enter_context(showing.asked_once())
                    self._show(client, self._ended or self._look())
                if over:
                    return
                over = self._over.wait(EVERY)

    def _show(self, client: SyncPrefectClient, now: tuple[float, str]) -> None:
        if now == self._shown:
            return
        share, said = round(100.0 * now[0], 1), plain(f"{self._name}: {now[1]}")
        if self._id is None:
            artifact = ArtifactCreate(
                key=self._key, type="progress", description=said, data=share,
                task_run_id=self._task_run, flow_run_id=self._flow_run,
            )  # fmt: skip
            self._id = client.create_artifact(artifact).id
        else:
            client.update_artifact(self._id, ArtifactUpdate(data=share, description=said))
        self._shown = now
        showing.answered()

    @contextmanager
    def _noted(self) -> Iterator[None]:
        """What the server or the way to it has against a call is said once."""
        try:
            yield
        except (httpx.HTTPError, PrefectException, RuntimeError, OSError) as error:
            # What it does not hear is in the next call, which costs nobody any time.
            news = showing.not_answered() if showing.may_answer(error) else True
            if news and not self._told:
                self._told = True
                self._log.warning(f"Prefect does not show how far {self._name} is: {type(error).__name__}: {error}")


@contextmanager
def metered(key: str, name: str, log: Log) -> Iterator[Progress]:
    """Around a task: the `Progress` that it tells goes to the run's log and to a `Meter`, and is where it stops when it is to."""
    lines, reached = Lines(log.info), Reached()

    def tell(stage: str, done: int, total: int) -> None:
        lines.stage(stage, done, total)
        reached.tell(stage, done, total)

    with Meter(key, name, reached.look, log):
        yield checked(tell)


class Counting:
    """A `Watcher` that shows how many scenes of a run are done, where there are several; each has a meter of its own."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._ended, self._failed, self._count, self._last = 0, 0, 0, ""
        self._meter: Meter | None = None
        self._open = ExitStack()

    def __enter__(self) -> Self:
        self._open.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None and self._meter is not None and self._failed:
            self._meter.end(f"{self._failed} of {self._count} failed")
        self._open.__exit__(kind, error, trace)

    def scene(self, number: int, count: int, name: str) -> Progress:
        """As in `Watcher`."""
        if not self._count and count > 1:
            self._meter = self._open.enter_context(Meter("decloud-progress", "all scenes", self._look, self._log))
        self._ended, self._count, self._last = number - 1, count, name
        return silent

    def ended(self, line: str) -> None:  # noqa: ARG002
        """As in `Watcher`."""
        self._ended += 1

    def counted(self, scene: SceneSummary) -> SceneSummary:
        """The same; how it ended is remembered."""
        self._failed += not scene.good
        return scene

    def _look(self) -> tuple[float, str]:
        failed = f", {self._failed} failed" if self._failed else ""
        done = self._ended - self._failed
        return self._ended / max(self._count, 1), f"{done} of {self._count} done{failed}, {self._last}"
