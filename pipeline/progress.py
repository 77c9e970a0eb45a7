"""`Progress`: how the engine tells a terminal, a flow or nobody how far it is."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called with (stage, done, total) from the thread that runs the scene; `total` is at least 1."""


def silent(stage: str, done: int, total: int) -> None:
    """Tell nobody."""
