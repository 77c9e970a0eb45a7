"""`PairTable`: training pairs as GeoParquet, a row a chip, with the verdict of the quality gate and the split.

The table is only ever whole: it is written beside its place and moved there, and reading it checks columns, values,
that each group is in one split, and that the split is the one with whose hash it was written.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import geopandas
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import shapely

from catalogs.errors import InvalidItem, InvalidQuery
from catalogs.pair_columns import COLUMNS, ROLES, Role, check, typed
from catalogs.places import LAYOUTS, SPLITS, Reject
from catalogs.splits import split_hash

VERSION = 1
"""Of the table's columns and metadata."""
_KEY = b"declouder"
_AGAIN = "make it again with `decloud pairs ROOT --layout ... --output {}`"


@dataclass(frozen=True, eq=False)
class PairTable:
    """Training pairs. `frame` is brought to the types of `COLUMNS`, ordered by id; InvalidItem for values that cannot be."""

    frame: geopandas.GeoDataFrame
    """A row a chip."""
    layout: str
    """Where the pairs come from, one of `LAYOUTS`."""
    root: str = ""
    """Root that was searched, absolute path or URL."""
    name: str = "pair table"
    """What error messages call it: its path, once it has one."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "frame", typed(self.frame, self.name))
        check(self.frame, self.name)
        if self.layout not in LAYOUTS:
            raise InvalidItem(f"{self.name}: layout {self.layout!r} is none of {', '.join(LAYOUTS)}")

    @classmethod
    def from_rows(cls, rows: Iterable[Mapping[str, Any]], *, layout: str, root: str = "") -> Self:
        """A table of dictionaries with the keys of `COLUMNS` and `geometry`; a key that is missing is null.

        Raises InvalidItem for a key that is no column, and as the class does.
        """
        listed = list(rows)
        unknown = sorted({key for row in listed for key in row} - {*COLUMNS, "geometry"})
        if unknown:
            raise InvalidItem(f"pair table: no column is called {', '.join(unknown)}")
        values = {name: [row.get(name) for row in listed] for name in COLUMNS}
        geometry = [row.get("geometry") for row in listed]
        return cls(geopandas.GeoDataFrame(values, geometry=geometry, crs="EPSG:4326"), layout, root)

    @property
    def split_hash(self) -> str:
        """`catalogs.splits.split_hash` of the groups in the table."""
        return split_hash(zip(self.frame["group"], self.frame["split"], strict=True))

    def usable(self, split: str, role: Role | None = None) -> geopandas.GeoDataFrame:
        """Rows of quality `ok` in `split`, of one `role` or of both. Raises InvalidQuery where there is none."""
        if split not in SPLITS or role not in (None, *ROLES):
            raise InvalidQuery(
                f"{self.name}: no split {split!r} or role {role!r}: {', '.join(SPLITS)}; {', '.join(ROLES)}"
            )
        good = self.frame[self.frame["quality"] == "ok"]
        rows = good[(good["split"] == split) & ((good["role"] == role) if role else True)]
        if len(rows):
            return rows
        counts = good.groupby(["split", "role"]).size()
        there = ", ".join(f"{key[0]} {key[1]} {count}" for key, count in counts.items()) or "none at all"
        wanted = f"{role} of quality ok" if role else "pair or clear ground of quality ok"
        raise InvalidQuery(f"{self.name}: no {wanted} in the split {split!r}; there are: {there}")

    def write(self, path: str | Path, rejects: Iterable[Reject] = ()) -> None:
        """Write the table to `path` and `rejects` beside it as `<stem>.rejects.csv`, each whole or not at all.

        The same table makes the same bytes. Raises InvalidQuery for a table without rows and a place that cannot be
        written to.
        """
        target = Path(path)
        if self.frame.empty:
            raise InvalidQuery(f"{target}: not written: not one place could be used")
        try:
            _replace(rejects_path(target), lambda part: part.write_bytes(_csv(rejects)))
            _replace(target, lambda part: pq.write_table(self._arrow(), part, compression="zstd"))
        except OSError as error:
            raise InvalidQuery(
                f"{target}: cannot be written: {error.strerror or error}: name another place with --output"
            ) from None

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """The table at `path`. Raises InvalidItem for anything that is not a whole, unaltered pair table of `VERSION`."""
        where, again = str(path), _AGAIN.format(path)
        if not Path(path).is_file():
            raise InvalidItem(f"{where}: no such pair table: {again}")
        try:
            schema = pq.read_schema(path)
            stated = json.loads((schema.metadata or {}).get(_KEY, b"null"))
        except (pa.ArrowException, OSError, ValueError, RecursionError) as error:
            raise InvalidItem(f"{where}: is no GeoParquet file ({_one_line(error)}): {again}") from None
        if not isinstance(stated, dict):
            raise InvalidItem(f"{where}: is Parquet, but no pair table of decloud (its metadata are missing): {again}")
        if stated.get("version") != VERSION:
            raise InvalidItem(f"{where}: is of version {stated.get('version')}, version {VERSION} is read: {again}")
        missing = [name for name in (*COLUMNS, "geometry") if name not in schema.names]
        if missing:
            raise InvalidItem(f"{where}: lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}: {again}")
        try:
            frame = geopandas.read_parquet(path)
        except (pa.ArrowException, shapely.errors.ShapelyError, OSError, ValueError, TypeError, KeyError) as error:
            raise InvalidItem(f"{where}: cannot be read ({_one_line(error)}): {again}") from None
        if frame.empty:
            raise InvalidItem(f"{where}: holds no row: {again}")
        table = cls(frame, str(stated.get("layout")), str(stated.get("root") or ""), where)
        if table.split_hash != stated.get("split_hash"):
            raise InvalidItem(
                f"{where}: its groups or splits were altered since it was made (split_hash differs): {again}"
            )
        return table

    def _arrow(self) -> pa.Table:
        """The table as GeoParquet has it, with our metadata; pandas' own, which change with its version, left out."""
        buffer = io.BytesIO()
        self.frame.to_parquet(buffer, index=False)
        buffer.seek(0)
        table = pq.read_table(buffer)
        fields = [pa.field(name, kind) for name, kind in COLUMNS.items()] + [table.schema.field("geometry")]
        stated = {"version": VERSION, "layout": self.layout, "root": self.root, "split_hash": self.split_hash}
        metadata = {b"geo": table.schema.metadata[b"geo"], _KEY: json.dumps(stated).encode()}
        return table.cast(pa.schema(fields)).replace_schema_metadata(metadata)


def rejects_path(table: Path) -> Path:
    """Where the rejects of the table at `table` are.

    >>> rejects_path(Path("out/pairs.parquet"))
    PosixPath('out/pairs.rejects.csv')
    """
    return table.with_name(f"{table.stem}.rejects.csv")


def read_rejects(table: Path) -> tuple[Reject, ...]:
    """The rejects that were written beside the table at `table`; none where there is no such file."""
    path = rejects_path(table)
    if not path.is_file():
        return ()
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        return tuple(Reject(row["path"], row["reason"]) for row in csv.DictReader(file))


def _replace(target: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make a file beside `target`, and move it there once it is on the disk."""
    part = target.with_name(f".{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write(part)
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _csv(rejects: Iterable[Reject]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("path", "reason"))
    writer.writerows((reject.path, reject.reason) for reject in rejects)
    # A name that is no UTF-8 is kept, as Python's file functions hand it out.
    return text.getvalue().encode("utf-8", "surrogateescape")


def _one_line(error: Exception) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:200]
