"""The work pools: `cpu` without a limit, and `gpu`, one slot for whatever wants the device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import TYPE_CHECKING

from pipeline.errors import InvalidSettings

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

POOLS: Mapping[str, int | None] = MappingProxyType({"cpu": None, "gpu": 1})
"""Pool -> flow runs that it takes at once, None = any number. `backfill` waits for its windows, so it never shares their slot."""


def ensure_pools(client: SyncPrefectClient, names: Sequence[str] = tuple(POOLS)) -> Iterator[str]:
    """Make the pools of `POOLS` that the server lacks, as process pools; say so, a line each.

    One that is there stays as it is: whoever made it a Kubernetes pool, or has two GPUs, knows why.
    Raises InvalidSettings for a pool that is neither there nor one of ours, before any is made.
    """
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
    from prefect.workers.process import ProcessWorker

    missing = []
    for name in names:
        try:
            client.read_work_pool(name)
        except ObjectNotFound:
            if name not in POOLS:
                raise InvalidSettings(
                    f"prefect.yaml: work pool {name} is not on the server and is none of {', '.join(POOLS)}: make it first, "
                    f"`prefect work-pool create {name} --type process`"
                ) from None
            missing.append(name)
    template = ProcessWorker.get_default_base_job_template()
    for name in missing:
        limit = POOLS[name]
        pool = WorkPoolCreate(name=name, type="process", concurrency_limit=limit, base_job_template=template)
        # Made meanwhile, by a server that starts or another deployment, is as good.
        with suppress(ObjectAlreadyExists):
            client.create_work_pool(pool)
            yield f"work pool {name}: made, {'no limit' if limit is None else f'{limit} at once'}"
