"""`Stages`: how far a scene is, from what the engine tells; `Run`: how far all scenes are.

The rate is that of the recent past, up to this moment: neither the slow beginning of a stage nor its quick parts are held
against what is left, and where nothing moves the time left grows. Stages overlap, so the one that is shown is the one that
will take longest still.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import NamedTuple

from pipeline.progress import PLAN, RESTORE, UNITS

SPAN = 20.0
"""Seconds of the past that a rate is taken from, where enough was done in them."""
_LEAST = 4
"""Steps that a rate is taken from at least, however long they took."""
_SAMPLE = 0.25
"""Seconds between two samples at least."""
_WRITE, _ENCODE = "write", "encode"


class Sample(NamedTuple):
    """So much was done then."""

    time: float
    """Seconds of a clock."""
    done: int


@dataclass
class Stage:
    """One stage of a scene."""

    name: str
    begun: float
    """Seconds of the clock."""
    total: int
    done: int = 0
    _samples: deque[Sample] = field(default_factory=deque, repr=False)

    @property
    def counted(self) -> bool:
        """True where it has more than a beginning and an end."""
        return self.total > 1 or self.name in UNITS

    @property
    def ended(self) -> bool:
        """True where all is done."""
        return self.done >= self.total

    def tell(self, done: int, total: int, now: float) -> None:
        """So much is done by now; what threads tell in the wrong order never goes backwards."""
        self.total, self.done = total, max(self.done, done)
        if not self._samples:
            self._samples.append(Sample(self.begun, 0 if self.begun < now else self.done))
        if self.done > self._samples[-1].done and now - self._samples[-1].time >= _SAMPLE:
            self._samples.append(Sample(now, self.done))
        while len(self._samples) > _LEAST and now - self._samples[1].time >= SPAN:
            self._samples.popleft()

    def rate(self, now: float) -> float:
        """Steps a second, of the recent past; 0 where none was taken."""
        if not self._samples or self.done <= self._samples[0].done or now <= self._samples[0].time:
            return 0.0
        return (self.done - self._samples[0].done) / (now - self._samples[0].time)

    def left(self, now: float) -> float | None:
        """Seconds still to go at this rate; None where nobody can say."""
        rate = self.rate(now)
        return (self.total - self.done) / rate if rate > 0 else None

    def said(self, now: float) -> str:
        """How far, how fast, how long still; how long already where nothing is counted."""
        if not self.counted:
            return f"{self.name} {clock_time(now - self.begun)}" if now - self.begun >= 1 else self.name
        unit = f" {UNITS[self.name]}" if self.name in UNITS else ""
        parts = [f"{self.name} {self.done}/{self.total}{unit}"]
        left = self.left(now)
        if left is not None:
            parts += [speed(self.rate(now)), f"{clock_time(left)} left"]
        return ", ".join(parts)


class Stages:
    """The stages of one scene. May be told and asked from several threads at once."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """clock: seconds."""
        self._clock = clock
        self._lock = threading.Lock()
        self._stages: dict[str, Stage] = {}
        self.begun = clock()
        self.needed: tuple[int, int] | None = None
        """Tiles that the network must see, and all; None while nobody has said."""

    def tell(self, stage: str, done: int, total: int) -> bool:
        """A `pipeline.progress.Progress`; True where the stage just began."""
        with self._lock:
            now = self._clock()
            if stage == PLAN:
                first, self.needed = self.needed is None, (done, total)
                if done:
                    # From here on the network is made ready: a rate that leaves this out would promise too much.
                    self._stages.setdefault(RESTORE, Stage(RESTORE, now, done)).tell(0, done, now)
                return first
            first = stage not in self._stages
            known = self._stages.setdefault(stage, Stage(stage, now, total))
            known.tell(done, total, now)
            return first

    @property
    def working(self) -> bool:
        """True where tiles or stripes are under way, or were: the scene is not one that was done before."""
        return any(stage in self._stages for stage in UNITS)

    def current(self) -> Stage | None:
        """The stage to be shown: the counted one that will take longest still, else the last that began."""
        with self._lock:
            now = self._clock()
            stages = list(self._stages.values())
            # Files are encoded when all pixels are there, whatever was counted: a run that goes on after a stop has tiles already.
            over = (RESTORE, _WRITE) if _ENCODE in self._stages else ()
            timed = [
                (left, stage)
                for stage in stages
                if not stage.ended and stage.name not in over and (left := stage.left(now)) is not None
            ]
            if timed:
                return max(timed, key=lambda pair: pair[0])[1]
            return next((stage for stage in reversed(stages) if stage.name not in over), None)

    def left(self) -> float | None:
        """Seconds still to go in the stage that is shown; None where nobody can say."""
        stage = self.current()
        return None if stage is None or stage.ended else stage.left(self._clock())


class Run:
    """All scenes of a run, one after another."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """clock: seconds."""
        self._clock = clock
        self._took: list[float] = []
        self.number, self.count = 0, 0
        self.ended = 0
        self.stages: Stages | None = None

    def scene(self, number: int, count: int) -> Stages:
        """Scene `number` of `count` begins."""
        self.number, self.count = number, count
        self.ended = number - 1
        self.stages = Stages(self._clock)
        return self.stages

    def end(self) -> None:
        """The scene ended. What had been done before, or could not even begin, says nothing of those to come."""
        if self.stages is not None and self.stages.working:
            self._took.append(self._clock() - self.stages.begun)
        self.ended, self.stages = self.number, None

    def left(self) -> float | None:
        """Seconds that all scenes still take, were those to come like those that were done; None where nobody can say."""
        rest = self.count - self.ended
        stages, here = self.stages, None
        if stages is not None:
            rest -= 1
            here = stages.left()
        if not self._took and here is not None and stages is not None:
            return here + rest * (self._clock() - stages.begun + here)
        if not self._took:
            return None
        mean = sum(self._took) / len(self._took)
        if stages is not None and here is None:
            here = max(mean - (self._clock() - stages.begun), 0.0)
        return (here or 0.0) + rest * mean


def clock_time(seconds: float) -> str:
    """A span of time for people.

    >>> clock_time(52.4), clock_time(7265), clock_time(200000)
    ('0:00:52', '2:01:05', '2 days, 7:33:20')
    """
    return str(timedelta(seconds=round(max(seconds, 0.0))))


def speed(rate: float) -> str:
    """Steps a second, or a minute where they are slow.

    >>> speed(12.34), speed(0.05)
    ('12.3/s', '3.0/min')
    """
    return f"{rate:.1f}/s" if rate >= 0.1 else f"{rate * 60:.1f}/min"
