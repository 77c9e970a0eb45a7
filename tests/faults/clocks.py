"""A clock that jumps, in a process of its own: the machine's is not ours to set."""

from __future__ import annotations

import datetime as dt
import sys
import time
from collections.abc import Sequence
from typing import Any

DAY = 86400.0
_PACKAGES = ("flows", "pipeline", "catalogs")


def jumping(jumps: Sequence[Sequence[float]]) -> None:
    """From now on `time.time` and `datetime.now` of our packages are off.

    jumps: (number of the question, seconds): from that question for the time on, the clock is so far off; ascending.
    """
    true_time, true_now, asked = time.time, dt.datetime.now, [0]

    def off() -> float:
        asked[0] += 1
        return next((by for number, by in reversed(list(jumps)) if asked[0] >= number), 0.0)

    class Jumping(dt.datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return true_now(tz) + dt.timedelta(seconds=off())

    time.time = lambda: true_time() + off()
    time.time_ns = lambda: int((true_time() + off()) * 1e9)
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] in _PACKAGES and getattr(module, "datetime", None) is dt.datetime:
            module.datetime = Jumping  # type: ignore[attr-defined]
