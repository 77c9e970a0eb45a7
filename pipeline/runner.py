"""Running scenes one after another: one bad scene never stops the rest, and none is reported as better than it is.

Every change of a scene's state is in the journal before the next step begins. The command line and the flows run each
scene through `run_scene`; `run_scenes` is the same for a notebook.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from catalogs.errors import CatalogError, SourceUnavailable
from catalogs.item import SceneItem
from pipeline.abandoned import remove_abandoned
from pipeline.engine import decloud_scene
from pipeline.errors import InUse, PipelineError
from pipeline.journal import GOOD, Journal, State
from pipeline.known_masks import masks_kept
from pipeline.output import find_product
from pipeline.product import Product
from pipeline.progress import Progress, silent
from pipeline.settings import DecloudSettings, Resources
from srgan.errors import ModelError

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SceneOutcome:
    """How one scene ended."""

    scene: str
    """Id of the source item."""
    state: State
    """done, unchanged, failed (a retry may help), invalid (it will not)."""
    reason: str = ""
    """One line, where it did not end well."""
    product: Product | None = None
    seconds: float = 0.0

    @property
    def good(self) -> bool:
        """True where the product is there."""
        return self.state in GOOD


@dataclass(frozen=True)
class RunReport:
    """How a run ended."""

    run: str
    """Id of the run, the stem of its journal."""
    outcomes: tuple[SceneOutcome, ...]

    @property
    def failed(self) -> bool:
        """True where any scene has no product."""
        return not all(outcome.good for outcome in self.outcomes)


def run_scenes(
    items: Sequence[SceneItem],
    output: Path,
    settings: DecloudSettings,
    *,
    candidates: Sequence[SceneItem] = (),
    area: BaseGeometry | None = None,
    resources: Resources | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
    on_outcome: Callable[[SceneOutcome], None] | None = None,
) -> RunReport:
    """Decloud scenes in the order given; see `decloud_scene` for the parameters.

    on_outcome: called after each scene. Raises WriteFailed where even the journal cannot be written, and as `several_scenes` does.
    """
    journal = Journal(output)
    for item in items:
        journal.write(item.id, "planned")
    outcomes = []
    with several_scenes(resources or Resources()):
        for item in items:
            outcome = run_scene(
                item, output, settings, journal=journal, candidates=candidates, area=area, resources=resources,
                overwrite=overwrite, progress=progress,
            )  # fmt: skip
            outcomes.append(outcome)
            if on_outcome is not None:
                on_outcome(outcome)
    remove_abandoned(output)
    return RunReport(journal.run, tuple(outcomes))


@contextmanager
def several_scenes(
    resources: Resources,
    tell: Callable[[str], None] = lambda line: None,  # noqa: ARG005
) -> Iterator[None]:
    """Around several scenes: what one has found out of its dates the others use, and they share one cluster, where `resources.dask` names one.

    tell: told the link of the cluster's dashboard. Raises ClusterFailed where there is no scheduler, InvalidSettings where a worker
    would compute other bits.
    """
    with masks_kept():
        if not resources.dask:
            yield
            return
        # Only who asks for a cluster pays for the import.
        from pipeline.cluster import connected

        with connected(resources, tell):
            yield


def run_scene(
    item: SceneItem,
    output: Path,
    settings: DecloudSettings,
    *,
    journal: Journal,
    candidates: Sequence[SceneItem] = (),
    area: BaseGeometry | None = None,
    resources: Resources | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
) -> SceneOutcome:
    """Decloud one scene, write its states to the journal, and turn its error into an outcome. Who runs the last one tidies up after all.

    Raises WriteFailed where the journal cannot be written, and KeyboardInterrupt or the like after noting it.
    """
    start = time.perf_counter()
    journal.write(item.id, "running")

    def ended(state: State, reason: str = "", product: Product | None = None) -> SceneOutcome:
        seconds = round(time.perf_counter() - start, 3)
        journal.write(item.id, state, reason, product.id if product else "", seconds)
        return SceneOutcome(item.id, state, reason, product, seconds)

    try:
        product = decloud_scene(
            item, output, settings, candidates=candidates, area=area, resources=resources, overwrite=overwrite,
            progress=progress, tidy=False,
        )  # fmt: skip
    except InUse as error:
        outcome = ended("failed", _line(error))
        # Whoever is at it may have ended before that line was written, which must not be the last word then. To overwrite
        # is to be sure that it is made anew: what is there may be the product of before.
        with suppress(PipelineError):
            made = None if overwrite else find_product(output, error.product)
            return outcome if made is None else ended("unchanged", product=made)
        return outcome
    except PipelineError as error:
        return ended("failed" if error.transient else "invalid", _line(error))
    except SourceUnavailable as error:
        return ended("failed", _line(error))
    except (CatalogError, ModelError) as error:
        return ended("invalid", _line(error))
    except MemoryError:
        return ended("failed", "out of memory; give a smaller --max-memory, so that blocks are smaller")
    except OSError as error:
        return ended("failed", _line(error))
    except Exception as error:  # noqa: BLE001 (whatever it is, the other scenes go on and the traceback is logged)
        _log.exception("%s failed unexpectedly", item.id)
        return ended("failed", f"unexpected {type(error).__name__}: {_line(error)}; please report it")
    except BaseException:
        # Ctrl-C, or whatever else a signal raises here: Prefect cancels by one of its own.
        ended("interrupted", "stopped; run again, finished blocks are kept")
        raise
    return ended("unchanged" if product.unchanged else "done", product=product)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
