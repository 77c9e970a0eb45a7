"""`HeldOut`: the rows of a split that a checkpoint is scored on, and every row that is not, with its reason.

Nothing is dropped in silence: `rows` of the split are either in a place of `places` or in `left_out`. A place keeps its rows together,
because a chip is all dates of one place.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd

from catalogs.apart import kept_apart
from catalogs.pairs import PairTable
from catalogs.places import SPLITS
from catalogs.splits import Splits, split_hash
from pipeline.chipstore import one_split_a_group, with_splits
from pipeline.errors import InvalidSettings

ALL = "all"
"""Stands for every split."""
USABLE = ("ok", "no_cloud")
"""Qualities that are scored: pairs, and pairs without cloud as ground for synthetic clouds, as the chip store takes them."""
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}")


class LeftOut(NamedTuple):
    """Something that is not in the scores."""

    id: str
    """Id of the row of a pair table, or of what else was left out."""
    reason: str
    """One line."""
    unread: bool = False
    """Whether it should have been scored, but its files are missing or damaged."""


@dataclass(frozen=True, eq=False)
class HeldOutPlace:
    """The usable rows of one place."""

    id: str
    group: str
    """ROI or tile: bootstraps draw whole groups."""
    table: str
    """What error messages call its table."""
    rows: pd.DataFrame
    """At least one, all of this place."""


@dataclass(frozen=True, eq=False)
class HeldOut:
    """What is scored of some pair tables."""

    split: str
    places: tuple[HeldOutPlace, ...]
    """At least one, ordered by id."""
    rows: int
    """Rows of the split. Postcondition: `rows == len(left_out)` and the rows of all `places` together."""
    left_out: tuple[LeftOut, ...]
    """Rows that are not scored."""
    split_hash: str
    """`catalogs.splits.split_hash` of the groups of all tables."""

    @classmethod
    def of(
        cls, tables: Sequence[PairTable], split: str, splits: Splits | None = None, limit: int | None = None
    ) -> HeldOut:
        """The rows of `split` (one of `SPLITS`, or `ALL`) of `tables`.

        splits: given anew for every group, instead of those of the tables. limit: at most so many places, taken from the groups
        in turn. Ground that lies in more than one split counts for the one that must not be learnt from (`kept_apart`).

        Raises InvalidSettings for a split that is none or that no usable row is in, with the splits that there are; for a group in two
        splits and a place in two tables.
        """
        if split not in (*SPLITS, ALL):
            raise InvalidSettings(f"--split {split}: {', '.join(SPLITS)} or {ALL} are possible")
        if limit is not None and limit < 1:
            raise InvalidSettings(f"--limit {limit}: at least 1 chip")
        given = [with_splits(table, splits) for table in tables]
        one_split_a_group(given)
        names = ", ".join(table.name for table in given) or "no pair table"
        chosen = [_of_split(table.frame, split) for table in given]
        if not sum(map(len, chosen)):
            there = Counter(name for table in given for name in table.frame["split"])
            found = ", ".join(f"{name} {there[name]}" for name in SPLITS if there[name]) or "no row at all"
            raise InvalidSettings(
                f"{names}: no row in the split {split!r}; there are: {found}: name another --split, or groups for it with --splits FILE"
            )
        apart = given if split == ALL else kept_apart(given)[0]
        left_out: list[LeftOut] = []
        places: dict[str, HeldOutPlace] = {}
        for table, rows, kept in zip(given, chosen, apart, strict=True):
            shared = ~rows["id"].isin(kept.frame["id"])
            left_out += [LeftOut(name, "lies on ground of another split") for name in rows["id"][shared]]
            rows = rows[~shared]
            bad = ~rows["quality"].isin(USABLE)
            left_out += [LeftOut(row["id"], f"{row['quality']}: {row['reason']}") for _, row in rows[bad].iterrows()]
            for name, members in rows[~bad].groupby("place"):
                for text in (name, *members["id"]):
                    if not _NAME.fullmatch(str(text)):
                        raise InvalidSettings(f"{table.name}: {text!r} cannot name a file: make the table again")
                if (before := places.get(str(name))) is not None:
                    raise InvalidSettings(f"place {name} is in {before.table} and in {table.name}: leave one out")
                places[str(name)] = HeldOutPlace(str(name), str(members["group"].iloc[0]), table.name, members)
        rows_there = sum(map(len, chosen))
        if not places:
            reasons = Counter(entry.reason.split(":")[0] for entry in left_out)
            listed = ", ".join(f"{reason} {count}" for reason, count in sorted(reasons.items()))
            raise InvalidSettings(
                f"{names}: none of the {rows_there} rows of the split {split!r} can be used: {listed}"
            )
        kept_places = _in_turn(places, limit)
        left_out += [
            LeftOut(name, f"beyond the limit of {limit} chips")
            for place in places.values()
            if place.id not in kept_places
            for name in place.rows["id"]
        ]
        hashed = split_hash(
            pair for table in given for pair in zip(table.frame["group"], table.frame["split"], strict=True)
        )
        taken = tuple(place for name, place in sorted(places.items()) if name in kept_places)
        return cls(split, taken, rows_there, tuple(sorted(left_out)), hashed)


def _of_split(frame: pd.DataFrame, split: str) -> pd.DataFrame:
    return frame if split == ALL else frame[frame["split"] == split]


def _in_turn(places: dict[str, HeldOutPlace], limit: int | None) -> set[str]:
    """Names of at most `limit` places, one of each group before a second one of any."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name in sorted(places):
        groups[places[name].group].append(name)
    turns = sorted((turn, name) for names in groups.values() for turn, name in enumerate(names))
    return {name for _, name in turns[:limit]}
