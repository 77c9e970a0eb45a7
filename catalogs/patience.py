"""`Patience`: how long a server is waited for, and how often it is asked again."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

from catalogs.errors import InvalidQuery


def _own_seed() -> str:
    return f"{platform.node()}-{os.getpid()}"


@dataclass(frozen=True)
class Patience:
    """The limits of one request, its further tries included."""

    tries: int = 5
    """How often at most; 1 or more."""
    first_wait: float = 0.5
    """Seconds before the second try; each further wait is twice as long, and up to half as long again by chance."""
    longest_wait: float = 20.0
    """Seconds that no wait of ours exceeds. What the server asks for by `Retry-After` may be longer, up to `total`."""
    total: float = 180.0
    """Seconds for all tries, waits and answers together."""
    connect: float = 10.0
    """Seconds for a connection."""
    silence: float = 60.0
    """Seconds between two pieces of an answer."""
    largest: int = 256 << 20
    """Bytes of an answer, unpacked."""
    seed: str = field(default_factory=_own_seed)
    """Of the chance in the waits: another one in each process, or all of them would come back at the same moment."""

    def __post_init__(self) -> None:
        if self.tries < 1 or min(self.first_wait, self.longest_wait) < 0:
            raise InvalidQuery(f"{self}: needs at least one try and waits of 0 s or more")
        if min(self.total, self.connect, self.silence, self.largest) <= 0:
            raise InvalidQuery(f"{self}: limits must be greater than 0")

    def waits(self) -> Iterator[float]:
        """Seconds to wait before each further try: first_wait 2^n (1 + u / 2), u uniform in 0..1, at most longest_wait.

        >>> [round(wait, 2) for wait in Patience(tries=4, first_wait=1, seed="a").waits()]
        [1.14, 2.07, 5.2]
        """
        chance = Random(self.seed)  # noqa: S311 - spreads requests, keeps no secret
        for number in range(self.tries - 1):
            yield min(self.first_wait * 2**number * (1 + chance.random() / 2), self.longest_wait)
