"""`StageTimes`: where the time of a scene went, as its product's item says; items of older products say less, or nothing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

TOTAL = "total"
ORDER = ("mask", "references", "load", "precision", "read", "network", "compose", "restore", "write", "stage", "encode")
"""Stages in the order in which they begin; others come behind. Before stages were timed apart, `restore` was all between the references
and the writing."""


@dataclass(frozen=True)
class StageTimes:
    """Seconds of a scene, by stage."""

    stages: Mapping[str, float] = field(default_factory=dict)
    """Stage -> seconds that it was busy, in the order of `ORDER`. Stages overlap, so their sum may exceed `total`."""
    total: float | None = None
    """Wall time of the scene; None where nobody measured it."""
    limit: str = ""
    """The stage with the largest share of the wall time; empty where nobody measured it."""

    @classmethod
    def of(cls, properties: Mapping[str, Any]) -> StageTimes:
        """What the properties of an item say. What is no time there (damaged, or written by others) is passed over.

        >>> StageTimes.of({"declouder:seconds": {"write": 2.0, "network": 18.2, "total": 24.6, "mask": None}, "declouder:limit": "network"})
        StageTimes(stages={'network': 18.2, 'write': 2.0}, total=24.6, limit='network')
        """
        said = properties.get("declouder:seconds")
        said = said if isinstance(said, Mapping) else {}
        times = {str(name): float(value) for name, value in said.items() if _time(value)}
        total = times.pop(TOTAL, None)
        limit = properties.get("declouder:limit")
        return cls({name: times[name] for name in ordered(times)}, total, limit if isinstance(limit, str) else "")

    @property
    def said(self) -> str:
        """The limit in words; empty where there is none.

        >>> StageTimes({"network": 18.2}, 24.6, "network").said
        'network 18.2 s was the limit'
        """
        if self.limit not in self.stages:
            return ""
        return f"{self.limit} {seconds(self.stages[self.limit])} s was the limit"


def ordered(names: Iterable[str]) -> list[str]:
    """Stages as they follow each other, those without a place by name.

    >>> ordered(["write", "zip", "mask", "arrange"])
    ['mask', 'write', 'arrange', 'zip']
    """
    return sorted(set(names), key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))


def seconds(value: float | None) -> str:
    """A time as text; empty where nobody measured it.

    >>> seconds(0.04), seconds(18.23), seconds(312.4), seconds(None)
    ('<0.1', '18.2', '312', '')
    """
    if value is None:
        return ""
    if 0 < value < 0.05:
        return "<0.1"
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _time(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0
