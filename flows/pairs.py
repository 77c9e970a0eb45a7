"""`decloud pairs`: the catalogue of training pairs, with the verdict of the quality gate on each."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from flows import options
from flows.interrupts import check, checked, ending
from pipeline.errors import InvalidSettings

if TYPE_CHECKING:
    from catalogs.pairs import PairTable
    from catalogs.places import Found, Reject
    from catalogs.query import Query
    from catalogs.splits import Splits

SHOWN = 20
"""Rejects that are printed; all are in the file beside the table."""

_HELP = """Make the catalogue of training pairs: a GeoParquet table, a row a chip, with the verdict of the quality gate.

Examples:

  decloud pairs SEN12MSCR --layout sen12mscr --output pairs.parquet

  decloud pairs catalogue --layout stac --chip 128 --split-by block --output pairs.parquet

Every image is measured: a clear side that is cloudy, under cirrus or snow, a pair without a cloud, one that is displaced
keep their row with their reason. What cannot be read or does not belong goes to pairs.rejects.csv beside the table and
stops nothing. Exit status: 0 a table was written, 2 wrong arguments or nothing found, 130 interrupted.
"""


def pairs(
    root: Annotated[
        str,
        typer.Argument(
            metavar="ROOT",
            show_default=False,
            help="Root of the tree; with stac a static catalogue, an item, a folder of items, a STAC API (URL or name).",
        ),
    ],
    layout: Annotated[
        Literal["sen12mscr", "sen12mscr-ts", "stac"], typer.Option(show_default=False, help="What ROOT is.")
    ],
    output: Annotated[Path, typer.Option(metavar="FILE", help="The table, `pairs.parquet`.")],
    splits: Annotated[
        str | None,
        typer.Option(
            metavar="official|hash|FILE",
            show_default="official; hash with stac",
            help="Who is train, val, test: the published lists, a hash of the group's name, or YAML/JSON {group: split}.",
        ),
    ] = None,
    chip: Annotated[
        int | None,
        typer.Option(metavar="256|128", show_default="256", help="Edge of a chip, pixels; 128 with stac only."),
    ] = None,
    max_days: Annotated[
        int | None,
        typer.Option(metavar="N", min=0, show_default="30", help="Days between the two dates of a pair, at most."),
    ] = None,
    split_by: Annotated[
        Literal["tile", "block"] | None,
        typer.Option(show_default="tile", help="stac: split whole MGRS tiles, or blocks of chips with a gap between."),
    ] = None,
    aoi: options.Aoi = None,
    dates: options.Dates = None,
    json: options.Json = False,  # noqa: FBT002 - a flag of the command line
    quiet: options.Quiet = False,  # noqa: FBT002
    debug: options.Debug = False,  # noqa: FBT002, ARG001 - looked at by `main`
) -> None:
    """Replaced by `_HELP`."""
    check_output(output)
    if layout != "stac" and (aoi or dates):
        raise InvalidSettings(f"--aoi and --dates go with --layout stac; {layout} is read whole")
    from catalogs.places import find_places
    from flows.watch import watcher
    from pipeline.pairs import MAX_DAYS, build_pairs

    with ending(lambda: f"{output} is as it was before; the same command begins again"):
        with watcher(quiet=quiet, of="steps") as told:
            found = find_places(
                root,
                layout,
                splits=splits_named(splits),
                chip=256 if chip is None else chip,
                by=split_by or "tile",
                query=query_of(aoi, dates),
                progress=checked(told.scene(1, 2, "files")),
            )
            told.ended(f"{len(found.places)} places, {len(found.rejects)} rejected")
            days = MAX_DAYS if max_days is None else max_days
            table, rejects = build_pairs(found, progress=checked(told.scene(2, 2, "pixels")), max_days=days)
            check()
            told.ended(f"{len(table.frame)} rows")
        if table.frame.empty and not json:
            _print_rejects(rejects, None)
        table.write(output, rejects)
    print_pairs(output, table, found, rejects, as_json=json)


pairs.__doc__ = _HELP


def check_output(output: Path) -> None:
    """Raise InvalidSettings where `output` cannot become a file."""
    if not str(output).strip() or output.is_dir():
        raise InvalidSettings(f"--output {output}: is a folder: name a file in it, {output / 'pairs.parquet'}")
    above = next((path for path in output.absolute().parents if path.exists()), None)
    if above is not None and not above.is_dir():
        raise InvalidSettings(f"--output {output}: {above} is a file; name another place")


def print_pairs(output: Path, table: PairTable, found: Found, rejects: Sequence[Reject], *, as_json: bool) -> None:
    """Print what a table holds: chips by split, role and quality, rejects, split hash."""
    from catalogs.pairs import rejects_path
    from flows.tables import print_json, print_table

    counts = counted(table)
    if as_json:
        print_json(
            {
                "table": str(output),
                "rejects_file": str(rejects_path(output)),
                "layout": table.layout,
                "rows": len(table.frame),
                "split_hash": table.split_hash,
                "counts": counts,
                "guard": found.guard,
                "rejects": [{"path": reject.path, "reason": reject.reason} for reject in rejects],
            }
        )
        return
    qualities = [name for name in _qualities() if any(name in row["quality"] for row in counts)]
    print_table(
        ("split", "role", *qualities),
        ((row["split"], row["role"], *(str(row["quality"].get(name, "")) for name in qualities)) for row in counts),
        right=qualities,
    )
    _print_rejects(rejects, rejects_path(output))
    if found.guard:
        sys.stdout.write(f"{found.guard} chips left out so that splits lie apart\n")
    lacking = [
        name
        for name in ("train", "val")
        if not ((table.frame["split"] == name) & (table.frame["quality"] == "ok")).any()
    ]
    if lacking:
        sys.stdout.write(
            f"no good chip of {' and '.join(lacking)}: `decloud train` needs both; name groups for them with --splits FILE\n"
        )
    good = int((table.frame["quality"] == "ok").sum())
    sys.stdout.write(
        f"{output}: {len(table.frame)} rows, {good} of them good; {len(rejects)} rejected; split {table.split_hash[:12]}\n"
    )


def counted(table: PairTable) -> list[dict[str, Any]]:
    """Rows of a table by split and role, and in each by quality."""
    counts: dict[tuple[str, str], dict[str, int]] = {}
    for row in table.frame[["split", "role", "quality"]].itertuples(index=False):
        by_quality = counts.setdefault((row.split, row.role), {})
        by_quality[row.quality] = by_quality.get(row.quality, 0) + 1
    return [{"split": split, "role": role, "quality": counts[split, role]} for split, role in sorted(counts)]


def _qualities() -> tuple[str, ...]:
    from catalogs.pair_columns import QUALITIES

    return QUALITIES


def _print_rejects(rejects: Sequence[Reject], file: Path | None) -> None:
    for reject in rejects[:SHOWN]:
        # A file may be called anything, a line break and bytes that are no text included.
        path = reject.path.encode("utf-8", "backslashreplace").decode().replace("\n", "\\n")
        sys.stdout.write(f"rejected {path}: {reject.reason}\n")
    if len(rejects) > SHOWN:
        sys.stdout.write(f"and {len(rejects) - SHOWN} more{f', in {file}' if file else ''}\n")


def splits_named(name: str | None) -> Splits | None:
    """The splits that `--splits` names; None as fits the layout. Raises CatalogError for a file that holds none."""
    from catalogs.splits import Splits

    if name is None:
        return None
    if name in ("official", "hash"):
        return Splits.official() if name == "official" else Splits.hashed()
    return Splits.read(name)


def query_of(aoi: str | None, dates: str | None) -> Query | None:
    """The query of an area and a span of time; None for neither. Raises InvalidQuery for what is none."""
    if not aoi and not dates:
        return None
    from catalogs.aoi import parse_aoi
    from catalogs.dates import parse_dates
    from catalogs.query import Query

    start, end = parse_dates(dates) if dates else (None, None)
    return Query(parse_aoi(aoi) if aoi else None, start, end)
