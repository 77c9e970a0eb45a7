"""`may_serve`: which other dates can become references of a scene at all. One rule for what is searched, keyed and ranked."""

from __future__ import annotations

from catalogs.item import SceneItem

_DAY = 86_400.0


def may_serve(item: SceneItem, other: SceneItem, window_days: float) -> bool:
    """Whether `other` is another date than `item`, of the same tile (as far as that is known), at most `window_days` away."""
    same_tile = item.tile is None or other.tile is None or item.tile == other.tile
    other_date = other.id != item.id and other.datetime != item.datetime
    return other_date and same_tile and abs(days_between(item, other)) <= window_days


def days_between(item: SceneItem, other: SceneItem) -> float:
    """Signed distance in days; negative where `other` is the earlier one."""
    return (other.datetime - item.datetime).total_seconds() / _DAY
