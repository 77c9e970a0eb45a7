"""`in_order`: work on many things, a few side by side, handed out in their order."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Thing = TypeVar("Thing")
Made = TypeVar("Made")


def in_order(work: Callable[[Thing], Made], things: Iterable[Thing], workers: int) -> Generator[Made]:
    """`work` of each thing, in order, by `workers` threads that are never more than a few ahead of who takes the results.

    So memory holds a few results, whatever the number of things. Close the generator to stop early: it waits for what is
    under way, and nothing is begun any more. An error of `work` comes out where its result would have.

    >>> list(in_order(abs, [-3, 2, -1], workers=2))
    [3, 2, 1]
    """
    remaining = iter(things)
    pool = ThreadPoolExecutor(workers, "ahead")
    try:
        waiting: list[Future[Made]] = [pool.submit(work, thing) for thing in islice(remaining, 2 * workers)]
        while waiting:
            result = waiting.pop(0).result()
            waiting += [pool.submit(work, thing) for thing in islice(remaining, 1)]
            yield result
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
