"""`Progress`: how the engine tells a terminal, a flow or nobody how far it is."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType

Progress = Callable[[str, int, int], None]
"""Called with (stage, done, total), perhaps from several threads at once; `total` is at least 1.

Stages overlap: tiles are restored while stripes are written. Those of `UNITS` are counted, every other goes from 0 to 1, or
only begins. The stage `plan` says once, before anything is computed, how many tiles (`done`) of all that cover the scene
(`total`) the network must see.
"""

RESTORE = "restore"
UNITS = MappingProxyType({RESTORE: "tiles", "write": "stripes", "encode": "files"})
"""Stage -> what it counts."""

PLAN = "plan"
"""The stage that says how much there is to do."""


def silent(stage: str, done: int, total: int) -> None:
    """Tell nobody."""
