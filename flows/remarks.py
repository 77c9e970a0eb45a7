"""What there is to say of a scene before it is run: files that are gone or elsewhere, no date, other sources too far off."""

from __future__ import annotations

from collections.abc import Sequence

from catalogs.geotiff import UNKNOWN_TIME
from catalogs.item import SceneItem
from catalogs.stac import REMOTE
from pipeline.settings import DecloudSettings


def missing_files(item: SceneItem, settings: DecloudSettings) -> list[str]:
    """A line for each band that is wanted and whose file is not there.

    The message names where the item is, the band and the href.
    """
    return [
        f"{item.origin or item.id}: band {name}: {reason}: fetch it, or choose other --bands"
        for name, reason in item.left_out.items()
        if reason.startswith("file not found") and _wanted(name, settings)
    ]


def remote_files(items: Sequence[SceneItem], settings: DecloudSettings) -> list[str]:
    """The bands of local items whose files are on a server: one line for all items that lack the same ones."""
    lacking: dict[tuple[str, ...], list[str]] = {}
    for item in items:
        names = tuple(name for name, reason in item.left_out.items() if reason == REMOTE and _wanted(name, settings))
        if names:
            lacking.setdefault(names, []).append(item.id)
    lines = []
    for names, ids in lacking.items():
        scenes = ids[0] + (f" and {len(ids) - 1} more" if len(ids) > 1 else "")
        some = f"{len(names)} bands whose files are" if len(names) > 1 else "a band whose file is"
        lines.append(f"{scenes}: not restored: {some} remote ({' '.join(names)})")
    return lines


def date_unknown(item: SceneItem) -> list[str]:
    """One line where no file tells when the scene was taken."""
    if not _undated(item):
        return []
    return [f"{item.id}: date unknown: give a file name with YYYYMMDD"]


def unused_sources(
    item: SceneItem, others: Sequence[SceneItem], candidates: Sequence[SceneItem], settings: DecloudSettings
) -> list[str]:
    """One line where there are other scenes, and none of them can serve as another date of `item`."""
    rest = [other for other in others if other.id != item.id]
    if not settings.references or candidates or not rest:
        return []
    return [f"{item.id}: no other date can be used: {'; '.join(_why(item, other, settings) for other in rest[:3])}"]


def _why(item: SceneItem, other: SceneItem, settings: DecloudSettings) -> str:
    if item.tile is not None and other.tile is not None and item.tile != other.tile:
        return f"{other.id} is of tile {other.tile}, not {item.tile}"
    for scene in (item, other):
        if _undated(scene):
            return f"{other.id} cannot be compared, as the date of {scene.id} is unknown"
    if other.datetime == item.datetime:
        return f"{other.id} is of the same moment"
    days = abs((other.datetime - item.datetime).total_seconds()) / 86400
    return f"{other.id} is {days:.0f} days away, --window-days is {settings.window_days}"


def _wanted(name: str, settings: DecloudSettings) -> bool:
    if name == "SCL":
        return settings.mask in ("auto", "scl")
    return settings.bands is None or name in settings.bands


def _undated(item: SceneItem) -> bool:
    return item.datetime == UNKNOWN_TIME
