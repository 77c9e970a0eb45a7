"""`Splits`: which group (a ROI, a tile, a block) belongs to train, val or test. Whole groups, by their exact names.

The usual loader of SEN12MS-CR asks whether the entry `s1_1` occurs in a path, and so takes `s1_106`, `s1_123` and
`s1_140` of the test list for training. Here a name is in a list or it is not.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import yaml

from catalogs.errors import InvalidQuery
from catalogs.places import SPLITS

SHARES: tuple[tuple[str, float], ...] = (("train", 0.8), ("val", 0.1), ("test", 0.1))
"""Share of groups in each split where a hash decides."""
REST = "*"
"""Key of a splits file: the split of every group that it does not name."""
_FOUR = ", ".join(SPLITS)


@dataclass(frozen=True)
class Splits:
    """A split for each group."""

    name: str
    """`official`, `hash`, or the path of the file."""
    groups: Mapping[str, str] = field(default_factory=dict)
    """Group -> split, by exact name."""
    rest: str = "other"
    """Split of a group that is not named, or `hash`: a hash of its name decides, in the shares `SHARES`."""
    seed: int = 0
    """Another seed is another hash."""

    def __post_init__(self) -> None:
        for group, split in self.groups.items():
            if split not in SPLITS:
                raise InvalidQuery(f"{self.name}: group {group!r} has the split {split!r}: {_FOUR} are possible")
        if self.rest not in (*SPLITS, "hash"):
            raise InvalidQuery(f"{self.name}: the rest has the split {self.rest!r}: {_FOUR} or hash are possible")
        object.__setattr__(self, "groups", MappingProxyType(dict(self.groups)))

    @classmethod
    def official(cls) -> Splits:
        """The published lists: the 175 ROIs of SEN12MS-CR and the 53 of SEN12MS-CR-TS; every other group is `other`.

        >>> splits = Splits.official()
        >>> [splits.of(f"ROIs1158_spring_{roi}") for roi in (1, 106, 17, 2)], splits.of("ROIs1868_100")
        (['train', 'test', 'val', 'other'], 'test')
        """
        return cls("official", {group: split for lists in _official().values() for group, split in lists.items()})

    @classmethod
    def hashed(cls, seed: int = 0) -> Splits:
        """No list: a hash of each group's name decides, the same on every machine."""
        return cls("hash", rest="hash", seed=seed)

    @classmethod
    def read(cls, path: str | Path) -> Splits:
        """The splits of a YAML or JSON file `{group: split}`; the key `"*"` stands for every group not named.

        Without it a group that is not named is `other`. Raises InvalidQuery, naming the file and what is wrong in it.
        """
        try:
            content = yaml.load(Path(path).read_text(encoding="utf-8"), Loader=_NoTwice)  # noqa: S506 - a SafeLoader
        except OSError as error:
            raise InvalidQuery(
                f"{path}: cannot be read: {error.strerror}: give a file of splits, or official"
            ) from None
        except (UnicodeDecodeError, yaml.YAMLError, ValueError, RecursionError) as error:
            raise InvalidQuery(f"{path}: is neither YAML nor JSON: {' '.join(str(error).split())}") from None
        if not isinstance(content, dict) or not content:
            raise InvalidQuery(f"{path}: holds no splits: write lines like `ROIs1158_spring_39: test`")
        for group, split in content.items():
            if not isinstance(group, str) or not group.strip() or not isinstance(split, str):
                raise InvalidQuery(
                    f"{path}: {group!r}: {_shown(split)!r} is no group and its split: write `ROIs1158_spring_39: test`"
                )
        rest = content.pop(REST, "other")
        return cls(str(path), content, rest)

    def of(self, group: str) -> str:
        """Split of the group with exactly this name. Postcondition: one of `SPLITS`, the same at every call."""
        if group in self.groups or self.rest != "hash":
            return self.groups.get(group, self.rest)
        drawn = int.from_bytes(hashlib.sha256(f"{self.seed}:{group}".encode()).digest()[:8]) / 2**64
        for split, share in SHARES:
            if drawn < share:
                return split
            drawn -= share
        return SHARES[-1][0]


def _shown(value: object) -> str:
    """A wrong value, short: a list whose YAML aliases hold each other is endless as text."""
    return f"a {type(value).__name__}" if isinstance(value, list | dict) else str(value)[:40]


def split_hash(pairs: Iterable[tuple[str, str]]) -> str:
    """sha256 (hexadecimal) of the sorted unique (group, split) pairs as JSON: equal exactly where two splits are.

    >>> split_hash([("b", "test"), ("a", "train"), ("b", "test")]) == split_hash([("a", "train"), ("b", "test")])
    True
    """
    return hashlib.sha256(json.dumps(sorted({tuple(pair) for pair in pairs})).encode()).hexdigest()


def official_list(layout: Literal["sen12mscr", "sen12mscr-ts"]) -> Mapping[str, str]:
    """The published list of one data set, group -> split."""
    return MappingProxyType(_official()[layout])


@cache
def _official() -> dict[str, dict[str, str]]:
    text = resources.files("catalogs").joinpath("sen12mscr_splits.yaml").read_text(encoding="utf-8")
    return {
        layout: {
            f"{prefix}_{roi}": split
            for split, prefixes in lists.items()
            for prefix, rois in prefixes.items()
            for roi in rois
        }
        for layout, lists in yaml.safe_load(text).items()
    }


class _NoTwice(yaml.SafeLoader):
    """YAML that refuses a key written twice: of two splits for one group the first would be lost without a word."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - yaml's
        keys = [self.construct_object(key, deep=deep) for key, _ in node.value]
        twice = [key for number, key in enumerate(keys) if key in keys[:number]]
        if twice:
            raise ValueError(f"{twice[0]!r} stands there twice")
        return super().construct_mapping(node, deep=deep)
