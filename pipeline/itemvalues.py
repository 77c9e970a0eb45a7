"""What an item says, read as it is found: anything that is no text, number or time there is left out, and nothing raises."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

_EARLIEST, _LATEST = 1970, 2200
"""Years beyond which a date is a slip; axes and calendars end somewhere."""


def moment(value: object) -> datetime | None:
    """A time of ISO 8601 in UTC."""
    with suppress(ValueError, OverflowError):
        found = datetime.fromisoformat(text(value))
        if _EARLIEST <= found.year < _LATEST:
            return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    return None


def shape(value: object) -> tuple[int, int] | None:
    """Rows and columns."""
    if isinstance(value, Sequence) and len(value) == 2 and all(isinstance(size, int) and size > 0 for size in value):
        return int(value[0]), int(value[1])
    return None


def bounds(value: object) -> tuple[float, float, float, float] | None:
    """West, south, east and north of a `bbox`, degrees; the heights of one with six numbers are left out.

    >>> bounds([15, 46, 0, 16, 47, 9]), bounds([170, -10, -170, 10]), bounds([15, 46])
    ((15.0, 46.0, 16.0, 47.0), (170.0, -10.0, 190.0, 10.0), None)
    """
    found = [number(one) for one in value] if isinstance(value, list) else []
    known = [one for one in (found[:2] + found[3:5] if len(found) == 6 else found) if one is not None]
    if len(known) != 4 or len(found) not in (4, 6):
        return None
    west, south, east, north = known
    # STAC writes a box across the 180th meridian with its west east of its east.
    return west, south, east + 360 if east < west else east, north


def mapping(value: object) -> Mapping[str, Any]:
    """An object of JSON."""
    return value if isinstance(value, Mapping) else {}


def text(value: object) -> str:
    """A text; empty for anything else."""
    return value if isinstance(value, str) else ""


def texts(value: object) -> dict[str, str]:
    """Name -> text."""
    return {str(name): str(told) for name, told in mapping(value).items()}


def reasons(value: object) -> dict[str, str]:
    """Id -> reason; products of older versions have just that, later ones a list of both."""
    if not isinstance(value, list):
        return texts(value)
    return {
        str(entry["id"]): text(entry.get("reason")) for entry in value if isinstance(entry, Mapping) and "id" in entry
    }


def names(value: object) -> tuple[str, ...]:
    """A list of names."""
    return tuple(str(name) for name in value) if isinstance(value, list) else ()


def number(value: object) -> float | None:
    """A number that is one: no NaN, no infinity, nothing absurd.

    >>> number(3), number(True), number(float("nan")), number("3")
    (3.0, None, None, None)
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < 1e15 else None  # neither NaN nor infinity


def numbers(value: object, high: float = 1.0) -> dict[str, float]:
    """Name -> number from 0 to `high`; others are left out."""
    found = {str(name): number(one) for name, one in mapping(value).items()}
    return {name: one for name, one in found.items() if one is not None and 0 <= one <= high}


def share(value: object, *, percent: bool = True) -> float | None:
    """A share, 0..1; as `percent` it is written 0..100."""
    found = number(value)
    if found is None or not 0 <= found <= (100 if percent else 1):
        return None
    return found / 100 if percent else found
