"""`FolderState`: what is known of every scene and every backfill that ran into a product folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from flows.ledger import Ledger, WindowScene, ledgers
from flows.times import StageTimes
from pipeline.address import address, output_url
from pipeline.checksums import incomplete
from pipeline.errors import InvalidSettings
from pipeline.folders import STAGING
from pipeline.items import Items, read_items
from pipeline.journal import GOOD, Entry, latest
from pipeline.storage import storage_of


@dataclass(frozen=True)
class SceneState:
    """The last that is known of a scene."""

    scene: str
    state: str
    """As in the journal; `gone` where the journal says done and the product is no longer there, `damaged` where files of it are not,
    or its item cannot be read.
    """
    time: str
    """UTC, ISO 8601; empty where there is no journal."""
    reason: str = ""
    product: str = ""
    run: str = ""
    """Id of the run that it was in last."""
    times: StageTimes = field(default_factory=StageTimes)
    """Where the time of the run that made the product went."""

    @property
    def good(self) -> bool:
        """True where the product is there."""
        return self.state in GOOD


@dataclass(frozen=True)
class WindowState:
    """A window of a backfill, as its scenes are today."""

    window: str
    state: str
    """done, failed, running, interrupted, or waiting: no run has reached it."""
    scenes: int = 0
    done: int = 0
    """Scenes of which the product is there."""
    reason: str = ""

    @property
    def good(self) -> bool:
        """True where nothing of it is left to be done."""
        return self.state == "done"


@dataclass(frozen=True)
class BackfillState:
    """A backfill."""

    id: str
    windows: tuple[WindowState, ...]
    """Oldest first."""

    @property
    def good(self) -> bool:
        """True where all windows are done."""
        return all(window.good for window in self.windows)

    @property
    def headline(self) -> str:
        """How many of what."""
        states = sorted({window.state for window in self.windows})
        counts = [f"{sum(window.state == state for window in self.windows)} {state}" for state in states]
        return f"backfill {self.id}: {len(self.windows)} window{'' if len(self.windows) == 1 else 's'}: {', '.join(counts)}"


@dataclass(frozen=True)
class FolderState:
    """A product folder."""

    scenes: tuple[SceneState, ...]
    unfinished: tuple[str, ...]
    """Ids of products of which blocks are kept for the next run."""
    backfills: tuple[BackfillState, ...] = ()

    @property
    def good(self) -> bool:
        """True where every scene has its product and every backfill all its windows."""
        return all(scene.good for scene in self.scenes) and all(backfill.good for backfill in self.backfills)

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
        # Of a scene with several products the first line is the journal's; the others are further products of it.
        last = {scene.scene: scene.state for scene in reversed(self.scenes)}
        counts = [f"{sum(state == one for one in last.values())} {state}" for state in sorted(set(last.values()))]
        more = len(self.scenes) - len(last)
        others = f", {more} further product{'' if more == 1 else 's'}" if more else ""
        kept = f"; blocks kept for {len(self.unfinished)}" if self.unfinished else ""
        return f"{len(last)} scene{'' if len(last) == 1 else 's'}: {', '.join(counts)}{others}{kept}"


def read_state(output: Path) -> FolderState:
    """Look at a product folder. Raises InvalidSettings where it is none, ReadFailed where it cannot be looked at."""
    if not storage_of(output).bring():
        raise InvalidSettings(f"{address(output)}: no such folder; name the --output of a run")
    items = read_items(output)
    state = state_of(output, items)
    if not state.scenes and not state.backfills:
        raise InvalidSettings(f"{address(output)}: holds no run and no product; name the --output of a run")
    return state


def state_of(output: Path, found: Items) -> FolderState:
    """What the journals and the items `found` in a folder say; journals of other machines must be there already."""
    journal, items, kept = latest(output), found.complete, ledgers(output)
    published = set(items)
    scenes = [_state(entry, found) for entry in journal.values()]
    known = {entry.product for entry in journal.values()}
    # Products of earlier runs with other parameters, or whose journal was removed.
    scenes += [_earlier(name, items[name]) for name in sorted(published - known)]
    scenes += [SceneState(name, "damaged", "", why, name) for name, why in found.unread.items() if name not in known]
    staged = output / STAGING
    unfinished = tuple(sorted(entry.name for entry in staged.iterdir() if entry.is_dir())) if staged.is_dir() else ()
    if output_url(output) is None:
        # Objects of a bucket are not looked at one by one.
        scenes = [_as_found(output, scene, items) for scene in scenes]
    scenes = [_timed(scene, items) for scene in scenes]
    good = {scene.scene for scene in scenes if scene.good}
    backfills = tuple(BackfillState(ledger.id, tuple(_windows(ledger, published, good))) for ledger in kept)
    return FolderState(tuple(scenes), unfinished, backfills)


def _earlier(name: str, item: Mapping[str, Any]) -> SceneState:
    """The product called `name`, of which no journal tells: its scene, and when it was made, as its item says."""
    properties = item.get("properties")
    stated = properties if isinstance(properties, Mapping) else {}
    return SceneState(
        str(stated.get("declouder:source") or name), "done", str(stated.get("created") or ""), product=name
    )


def _windows(ledger: Ledger, published: set[str], good: set[str]) -> Iterator[WindowState]:
    """The windows of a backfill; published: ids of products, good: ids of scenes that have one."""
    lines = ledger.latest()
    for window in ledger.windows():
        line = lines.get(window)
        if line is None:
            yield WindowState(window, "waiting")
            continue
        # A scene may have been made by another try since, and a product may have been removed.
        left = [
            scene
            for scene in line.scenes
            if scene.product not in published and (scene.product or scene.scene not in good)
        ]
        told = "; ".join(f"{scene.scene}: {_why_left(scene)}" for scene in left)
        count, done = len(line.scenes), len(line.scenes) - len(left)
        if line.abandoned:
            yield WindowState(window, "interrupted", reason="the process ended before the window was done; run again")
        elif line.state in ("running", "interrupted"):
            yield WindowState(window, line.state, count, done, line.reason)
        elif left or line.problems or (line.state == "failed" and not line.scenes):
            reason = "; ".join(part for part in (told, *line.problems, "" if line.scenes else line.reason) if part)
            yield WindowState(window, "failed", count, done, reason)
        else:
            yield WindowState(window, "done", count, done, line.reason)


def _why_left(scene: WindowScene) -> str:
    return f"{scene.state}: {scene.reason}" if not scene.product else "its product is not there any more; run again"


def _as_found(output: Path, scene: SceneState, items: Mapping[str, Mapping[str, Any]]) -> SceneState:
    """`damaged` where files of the product are missing or cut."""
    if not scene.good:
        return scene
    problems = incomplete(output / scene.product, items[scene.product])
    return replace(scene, state="damaged", reason=f"{'; '.join(problems)}: run again") if problems else scene


def _timed(scene: SceneState, items: Mapping[str, Mapping[str, Any]]) -> SceneState:
    """The same with the times that the product's item holds, where there is one."""
    properties = items.get(scene.product, {}).get("properties")
    return replace(scene, times=StageTimes.of(properties)) if isinstance(properties, Mapping) else scene


def _state(entry: Entry, found: Items) -> SceneState:
    state = SceneState(entry.scene, entry.state, entry.time, entry.reason, entry.product, entry.run)
    if not state.good or entry.product in found.complete:
        return state
    if entry.product in found.unread:
        return replace(state, state="damaged", reason=found.unread[entry.product])
    return replace(state, state="gone", reason="its product is not there any more; run again")
