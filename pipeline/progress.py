"""`Progress`: how the engine tells a terminal, a flow or nobody how far it is."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called with (stage, done, total), perhaps from several threads at once; `total` is at least 1.

The stage `restore` counts tiles of the network, every other goes from 0 to 1.
"""


def silent(stage: str, done: int, total: int) -> None:
    """Tell nobody."""
