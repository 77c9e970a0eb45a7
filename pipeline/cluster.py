"""`Cluster`: the `distributed` cluster on which the networks of a run work, and `connected`, which scenes of a run share it by.

Reading, composing and writing stay here; the network's tiles go to the workers, in parts of a block. So the workers need neither the
inputs nor their credentials nor a common disk, the client's folder is the one place where results are, and a worker that is lost
takes with it no more than the parts that it was at: the scheduler gives them to another one, up to its `allowed-failures` times.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from pipeline.checkpoints import IDENTITY, checkpoint_digest, checkpoint_paths
from pipeline.cluster_worker import GPU, IgnoreInterrupts, Recipe, WorkerDiffers, differs, keep_checkpoint, software
from pipeline.errors import ClusterFailed, InvalidSettings, WriteFailed

if TYPE_CHECKING:
    from distributed import Client, LocalCluster

    from pipeline.settings import Resources

TIMEOUT = 10.0
"""Seconds in which a scheduler has to answer."""
ENDING = 60.0
"""Seconds in which processes of our own have to end; those that do not close by themselves are killed meanwhile."""
PATIENCE = 120.0
"""Seconds without any worker after which a scene is given up: a cluster that grows when it is needed takes a while."""

_log = logging.getLogger(__name__)


class Cluster:
    """A connection to a cluster; one of worker processes on this machine is started with it and ends with it."""

    def __init__(self, dask: str, device: str = "auto") -> None:
        """Connect to `dask`: `tcp://host:port`, or `local:N`, which starts N processes of one thread each.

        device: `auto`, `cpu`, `cuda` or `cuda:N`, of the workers. Raises ClusterFailed where there is no scheduler, WorkerDiffers
        where a worker would compute other bits, InvalidSettings for `cuda` where no worker offers a GPU.
        """
        self.name, self._device_asked, self._device = dask, device, ""
        self.local = int(dask.removeprefix("local:")) if dask.startswith("local:") else 0
        self._lock = threading.Lock()
        self._sent: dict[tuple[str, str], float] = {}
        self._alone_since: float | None = None
        self._stack = ExitStack()
        try:
            self.client: Client = self._connect()
            self._check_workers()
        except BaseException:
            self.close()
            raise

    @property
    def dashboard(self) -> str:
        """Link to the scheduler's pages; empty where it has none."""
        return str(self.client.dashboard_link or "")

    @property
    def running(self) -> bool:
        """False once the scheduler was lost; what was given to it is lost too."""
        return bool(self.client.status == "running")

    def workers(self) -> dict[str, dict[str, Any]]:
        """Name, threads and resources of each worker, by address. Raises ClusterFailed."""

        # Sent by value: the scheduler needs no declouder. `Client.scheduler_info` is emptied by its own refresh now and then.
        def listed(dask_scheduler: Any) -> dict[str, dict[str, Any]]:
            return {
                worker.address: {"name": worker.name, "threads": worker.nthreads, "resources": dict(worker.resources)}
                for worker in dask_scheduler.workers.values()
            }

        try:
            found: dict[str, dict[str, Any]] = self.client.run_on_scheduler(listed)
        except (OSError, TimeoutError, RuntimeError, ValueError) as error:
            raise self.lost() from error
        return found

    def threads(self, device: str) -> int:
        """Tasks that the cluster does at a time, at least 1: its threads, or its GPUs."""
        workers = self.workers().values()
        if device == "cpu":
            return max(sum(int(worker["threads"]) for worker in workers), 1)
        return max(sum(int(worker["resources"].get(GPU, 0)) for worker in workers), 1)

    def recipe(self, checkpoint: str, bands: tuple[str, ...]) -> Recipe:
        """What the workers are to be asked for. Raises InvalidSettings for a checkpoint that cannot be read."""
        named = checkpoint in (IDENTITY, "default")
        where = checkpoint if named else str(checkpoint_paths(checkpoint)[0].absolute())
        device = "cpu" if checkpoint == IDENTITY else self._chosen_device()
        # Processes that were started here run what runs here.
        return Recipe(where, checkpoint_digest(checkpoint), bands, device, None if self.local else software())

    def send_checkpoint(self, recipe: Recipe, worker: str, since: float) -> None:
        """Send the weights to a worker that lacked them for a part given away at `since`, unless they have come after that.

        So one that was started anew at its address, in an empty folder, gets them again. Raises ClusterFailed, WriteFailed.
        """
        with self._lock:
            if self._sent.get((worker, recipe.digest), since) > since:
                return
            files = {path.name: path.read_bytes() for path in checkpoint_paths(recipe.checkpoint)}
            try:
                came = self.client.run(keep_checkpoint, recipe.digest, files, workers=[worker], on_error="return")
            except (OSError, TimeoutError, RuntimeError, ValueError) as error:
                raise self.lost() from error
            failed = came.get(worker)
            if isinstance(failed, WriteFailed):
                raise failed
            if isinstance(failed, Exception):
                # It has gone meanwhile: whoever gets the part now asks for itself.
                _log.info("checkpoint %s did not reach %s: %s", recipe.digest[:16], worker, failed)
                return
            self._sent[worker, recipe.digest] = time.monotonic()
        _log.info("checkpoint %s sent to %s", recipe.digest[:16], worker)

    def check(self) -> None:
        """Raise ClusterFailed where the scheduler is lost, or has been without a worker for too long."""
        if not self.running:
            raise self.lost()
        if self.workers():
            self._alone_since = None
            return
        self._alone_since = self._alone_since or time.monotonic()
        if time.monotonic() - self._alone_since > PATIENCE:
            raise ClusterFailed(
                f"--dask {self.name}: no worker for {PATIENCE:.0f} s; finished blocks are kept: start workers and run again"
            )

    def lost(self) -> ClusterFailed:
        """The error to raise where the scheduler does not answer any more."""
        return ClusterFailed(
            f"--dask {self.name}: the scheduler is gone; finished blocks are kept: start it again and repeat the run"
        )

    def close(self) -> None:
        """Leave the cluster; end it where it was started here."""
        self._stack.close()

    def _connect(self) -> Client:
        import dask
        from distributed import Client

        self._stack.enter_context(_quiet())
        # A part's pixels go with its task, so that it can be done again elsewhere; how many are on their way is ours to bound.
        self._stack.enter_context(dask.config.set({"distributed.admin.large-graph-warning-threshold": "1GiB"}))
        address: Any = self.name
        if self.local:
            address = self._started()
            self._stack.callback(_closed, address, ENDING)
        try:
            client = Client(address, timeout=TIMEOUT, set_as_default=False)
        except (OSError, TimeoutError, ValueError) as error:
            raise ClusterFailed(
                f"--dask {self.name}: no scheduler answers within {TIMEOUT:.0f} s; start one (dask scheduler), check host and port, "
                "or leave --dask out to run here"
            ) from error
        self._stack.callback(_closed, client, TIMEOUT)
        if self.local:
            client.register_plugin(IgnoreInterrupts())
        return client

    def _started(self) -> LocalCluster:
        """Processes on this machine. Raises ClusterFailed."""
        from distributed import LocalCluster

        try:
            return LocalCluster(
                n_workers=self.local,
                threads_per_worker=1,
                processes=True,
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",
                # Blocks are sized so that all processes together stay within --max-memory: none is to be paused or killed.
                memory_limit=0,
                silence_logs=logging.CRITICAL,
                resources={} if self._device_asked == "cpu" else {GPU: 1},
            )
        except (OSError, RuntimeError) as error:
            reason = " ".join(str(error.__cause__ or error).split())
            raise ClusterFailed(
                f"--dask {self.name}: the processes could not be started ({reason}); ask for fewer, or leave --dask out to run here"
            ) from error

    def _check_workers(self) -> None:
        """Raise where a worker cannot do, or would do otherwise. Those that come later are looked at with their first task."""
        if self.local:
            return

        # Sent by value, as it is defined here: a worker without this package can answer too.
        def probe() -> str | None:
            try:
                from pipeline.cluster_worker import software as own
            except (ImportError, AttributeError):
                return None
            return str(own())

        asked = str(software())
        for address, own in self.client.run(probe).items():
            if own != asked:
                raise WorkerDiffers(differs(address, own, asked))

    def _chosen_device(self) -> str:
        with self._lock:
            if not self._device:
                self._device = self._pick_device()
            return self._device

    def _pick_device(self) -> str:
        asked = self._device_asked
        if asked == "cpu":
            return asked
        workers = self.workers()
        with_gpu = [name for name, worker in workers.items() if worker["resources"].get(GPU, 0) >= 1]
        seen = bool(with_gpu) and all(self.client.run(_sees_cuda, workers=with_gpu).values())
        if asked == "auto":
            return "cuda" if seen else "cpu"
        if workers and not seen:
            raise InvalidSettings(
                f"--device {asked}: no worker of --dask {self.name} offers a GPU that its torch sees; start workers with "
                f"--resources {GPU}=1 where there is one, or use --device cpu"
            )
        return asked


class Session:
    """The cluster that scenes share: connected when first needed, and anew where its scheduler was lost."""

    def __init__(self, resources: Resources, tell: Callable[[str], None]) -> None:
        self.users = 0
        self._resources, self._tell = resources, tell
        self._cluster: Cluster | None = None
        self._lock = threading.Lock()

    def cluster(self) -> Cluster:
        """The cluster. Raises as `Cluster` does."""
        with self._lock:
            if self._cluster is not None and not self._cluster.running:
                self._cluster.close()
                self._cluster = None
            if self._cluster is None:
                self._cluster = Cluster(self._resources.dask, self._resources.device)
                if self._cluster.dashboard:
                    self._tell(f"dashboard of --dask {self._resources.dask}: {self._cluster.dashboard}")
            return self._cluster

    def close(self) -> None:
        """Leave the cluster."""
        if self._cluster is not None:
            self._cluster.close()


_sessions: dict[tuple[str, str], Session] = {}
_sessions_lock = threading.Lock()


def _tell_nobody(line: str) -> None:
    """Leave a line unsaid."""


@contextmanager
def connected(resources: Resources, tell: Callable[[str], None] = _tell_nobody) -> Iterator[Session]:
    """Share one connection among all scenes that are run inside, in any thread.

    A scheduler elsewhere is asked at once, so that a run does not begin in vain; local processes start when a scene needs them.
    tell: told the dashboard's link. Raises as `Cluster` does.
    """
    key = (resources.dask, resources.device)
    with _sessions_lock:
        session = _sessions.setdefault(key, Session(resources, tell))
        session.users += 1
    try:
        if not resources.dask.startswith("local:"):
            session.cluster()
        yield session
    finally:
        with _sessions_lock:
            session.users -= 1
            last = session.users == 0
            if last:
                del _sessions[key]
        if last:
            session.close()


def _sees_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def _closed(what: Any, timeout: float) -> None:
    """Close a client or a cluster; one that does not answer in time is left to its end, and that is noted."""
    try:
        what.close(timeout=timeout)
    except (TimeoutError, OSError) as error:
        _log.warning("%s did not close in time: %s", what, error)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what `distributed` logs, tracebacks of lost connections among it, from standard error: we say what it means."""
    names: Sequence[str] = ("distributed", "tornado.application", "tornado")
    handlers = {handler for name in names for handler in logging.getLogger(name).handlers}
    before = {handler: handler.level for handler in handlers}
    for handler in handlers:
        handler.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for handler, level in before.items():
            handler.setLevel(level)
