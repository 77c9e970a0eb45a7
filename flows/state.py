"""`FolderState`: what is known of every scene that ran into a product folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import InvalidSettings
from pipeline.folders import STAGING
from pipeline.journal import Entry, latest
from pipeline.publish import published_items


@dataclass(frozen=True)
class SceneState:
    """The last that is known of a scene."""

    scene: str
    state: str
    """As in the journal; `gone` where the journal says done and the product is no longer there."""
    time: str
    """UTC, ISO 8601; empty where there is no journal."""
    reason: str = ""
    product: str = ""
    run: str = ""
    """Id of the run that it was in last."""

    @property
    def good(self) -> bool:
        """True where the product is there."""
        return self.state in ("done", "unchanged")


@dataclass(frozen=True)
class FolderState:
    """A product folder."""

    scenes: tuple[SceneState, ...]
    unfinished: tuple[str, ...]
    """Ids of products of which blocks are kept for the next run."""

    @property
    def retried(self) -> dict[str, tuple[str, ...]]:
        """Run -> its scenes that another try may help: failed, interrupted, or never begun by a run that has ended."""
        going_on = {scene.run for scene in self.scenes if scene.state == "running"}
        runs: dict[str, tuple[str, ...]] = {}
        for scene in self.scenes:
            if scene.state in ("failed", "interrupted") or (scene.state == "planned" and scene.run not in going_on):
                runs[scene.run] = (*runs.get(scene.run, ()), scene.scene)
        return runs

    @property
    def headline(self) -> str:
        """How many of what."""
        states = sorted({scene.state for scene in self.scenes})
        counts = [f"{sum(scene.state == state for scene in self.scenes)} {state}" for state in states]
        kept = f"; blocks kept for {len(self.unfinished)}" if self.unfinished else ""
        return f"{len(self.scenes)} scene{'' if len(self.scenes) == 1 else 's'}: {', '.join(counts)}{kept}"


def read_state(output: Path) -> FolderState:
    """Look at a product folder. Raises InvalidSettings where it is none."""
    if not output.is_dir():
        raise InvalidSettings(f"{output}: no such folder; name the --output of a run")
    journal, published = latest(output), set(published_items(output))
    if not journal and not published:
        raise InvalidSettings(f"{output}: holds no run and no product; name the --output of a run")
    scenes = [_state(entry, published) for entry in journal.values()]
    known = {entry.product for entry in journal.values()}
    # Products of earlier runs with other parameters, or whose journal was removed.
    scenes += [SceneState(name, "done", "", product=name) for name in sorted(published - known)]
    staged = output / STAGING
    unfinished = tuple(sorted(entry.name for entry in staged.iterdir() if entry.is_dir())) if staged.is_dir() else ()
    return FolderState(tuple(scenes), unfinished)


def _state(entry: Entry, published: set[str]) -> SceneState:
    state = SceneState(entry.scene, entry.state, entry.time, entry.reason, entry.product, entry.run)
    if state.good and entry.product not in published:
        return SceneState(
            entry.scene, "gone", entry.time, "its product is not there any more; run again", entry.product, entry.run
        )
    return state
