from __future__ import annotations

import hashlib
import json
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import geopandas
import pandas as pd
import pyarrow.parquet as pq
import pytest
from shapely.geometry import box

from catalogs.apart import kept_apart
from catalogs.errors import InvalidItem, InvalidQuery
from catalogs.pair_columns import COLUMNS, QUALITIES
from catalogs.pairs import PairTable, read_rejects, rejects_path
from catalogs.places import Reject

WHEN = datetime(2018, 6, 21, 10, 30, tzinfo=UTC)


def row(number: int = 0, **changes: Any) -> dict[str, Any]:
    """A row as the gate makes it; patches lie side by side."""
    made = {
        "id": f"ROIs1158_spring_1_p{number}",
        "place": f"ROIs1158_spring_1_p{number}",
        "group": "ROIs1158_spring_1",
        "split": "train",
        "role": "pair",
        "quality": "ok",
        "reason": "",
        "layout": "sen12mscr",
        "cloudy_href": f"/data/cloudy_{number}.tif",
        "clear_href": f"/data/clear_{number}.tif",
        "s1_href": None,
        "crs": "EPSG:32633",
        "mask": "s2cloudless",
        "cloudy_fraction": 0.5,
        "clear_fraction": 0.0,
        "snow_cloudy": 0.0,
        "snow_clear": 0.0,
        "cirrus_clear": 0.0012,
        "joint_difference": 0.02,
        "shift": 0.25,
        "geometry": box(15 + number / 10, 45, 15.1 + number / 10, 45.1),
    }
    return made | changes


def table(*rows: dict[str, Any]) -> PairTable:
    return PairTable.from_rows(rows or [row(0), row(1)], layout="sen12mscr", root="/data")


FULL = [
    row(2, group="ROIs1158_spring_2", split="test", quality="snow", reason="30% of the clear side is snow", shift=None),
    row(1, row=0, col=256, height=128, width=128, cloudy_date=WHEN, clear_date=WHEN, s1_href="/data/s1.tif"),
    row(0, role="clear", cloudy_href=None, cloudy_fraction=None, cirrus_clear=None, joint_difference=float("nan")),
]


def test_the_columns_are_those_of_the_agreement() -> None:
    frame = table(*FULL).frame
    assert list(frame.columns) == [*COLUMNS, "geometry"]
    assert frame.crs == "EPSG:4326"
    assert list(frame["id"]) == sorted(frame["id"])


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    made = table(*FULL)
    made.write(tmp_path / "pairs.parquet")
    read = PairTable.read(tmp_path / "pairs.parquet")
    pd.testing.assert_frame_equal(pd.DataFrame(read.frame), pd.DataFrame(made.frame))
    assert read.frame.geometry.geom_equals(made.frame.geometry).all()
    assert (read.layout, read.root, read.split_hash) == ("sen12mscr", "/data", made.split_hash)
    clear, pair, _ = (entry for entry in read.frame.itertuples())
    assert clear.cloudy_href is None
    assert clear.row is pd.NA
    assert clear.cloudy_date is pd.NaT
    assert pair.clear_date == WHEN
    assert (pair.row, pair.col, pair.height, pair.width) == (0, 256, 128, 128)


def test_others_read_it_as_geoparquet(tmp_path: Path) -> None:
    path = tmp_path / "pairs.parquet"
    table(*FULL).write(path)
    frame = geopandas.read_parquet(path)
    assert frame.crs == "EPSG:4326"
    assert len(frame) == 3
    schema = pq.read_schema(path)
    assert {name: schema.field(name).type for name in COLUMNS} == dict(COLUMNS)
    stated = json.loads(schema.metadata[b"declouder"])
    assert stated == {
        "version": 1,
        "layout": "sen12mscr",
        "root": "/data",
        "split_hash": hashlib.sha256(b'[["ROIs1158_spring_1", "train"], ["ROIs1158_spring_2", "test"]]').hexdigest(),
    }
    assert json.loads(schema.metadata[b"geo"])["primary_column"] == "geometry"


def test_the_same_rows_make_the_same_bytes(tmp_path: Path) -> None:
    table(*FULL).write(tmp_path / "a.parquet")
    table(*reversed(FULL)).write(tmp_path / "b.parquet")
    PairTable.read(tmp_path / "a.parquet").write(tmp_path / "c.parquet")
    first, second, third = ((tmp_path / name).read_bytes() for name in ("a.parquet", "b.parquet", "c.parquet"))
    assert first == second == third


def test_rejects_lie_beside_the_table(tmp_path: Path) -> None:
    rejects = [Reject('/data/odd, "name".tif', "is empty (0 bytes)"), Reject("/data/two\nlines.tif", "has 12 bands")]
    rejects.append(Reject(os.fsdecode(b"/data/\xff.tif"), "schlecht: 12 Bänder"))
    path = tmp_path / "a" / "b" / "pairs.parquet"
    table().write(path, rejects)
    assert rejects_path(path) == tmp_path / "a" / "b" / "pairs.rejects.csv"
    assert rejects_path(path).read_text(errors="surrogateescape").splitlines()[0] == "path,reason"
    assert list(read_rejects(path)) == rejects
    table().write(path)
    assert read_rejects(path) == (), "those of an earlier table do not stay"
    rejects_path(path).unlink()
    assert read_rejects(path) == ()
    assert [entry.name for entry in path.parent.iterdir()] == ["pairs.parquet"]


@contextmanager
def no_file_longer_than(size: int) -> Iterator[None]:
    """As on a full disk, a write fails half-way."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_the_table_that_was_there(tmp_path: Path) -> None:
    path = tmp_path / "pairs.parquet"
    table(row(0)).write(path)
    before = path.read_bytes()
    with no_file_longer_than(3000), pytest.raises(InvalidQuery) as raised:
        table().write(path)
    assert str(raised.value).startswith(f"{path}: cannot be written: ")
    assert "File too large" in str(raised.value)
    assert "\n" not in str(raised.value)
    assert path.read_bytes() == before
    assert {entry.name for entry in tmp_path.iterdir()} == {"pairs.parquet", "pairs.rejects.csv"}


def test_places_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InvalidQuery, match="cannot be written: Not a directory"):
        table().write(tmp_path / "file" / "pairs.parquet")
    with pytest.raises(InvalidQuery, match="not one place could be used"):
        PairTable.from_rows([], layout="stac").write(tmp_path / "pairs.parquet")
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_only_good_rows_of_the_split_are_usable() -> None:
    made = table(
        row(0), row(1, role="clear"), row(2, quality="no_cloud", reason="0.3% cloud"),
        row(3, group="ROIs1158_spring_2", split="val"), row(4, group="ROIs1158_spring_3", split="test", quality="snow", reason="x"),
    )  # fmt: skip
    assert list(made.usable("train")["place"].str[-1]) == ["0", "1"]
    assert list(made.usable("train", "clear")["place"].str[-1]) == ["1"]
    assert list(made.usable("val", "pair")["place"].str[-1]) == ["3"]
    said = "no pair of quality ok in the split 'test'; there are: train clear 1, train pair 1, val pair 1"
    with pytest.raises(InvalidQuery, match=said):
        made.usable("test", "pair")
    with pytest.raises(InvalidQuery, match="no clear of quality ok in the split 'val'"):
        made.usable("val", "clear")
    with pytest.raises(InvalidQuery, match="no pair or clear ground of quality ok in the split 'other'"):
        made.usable("other")
    with pytest.raises(InvalidQuery, match="no split 'tests'"):
        made.usable("tests")
    with pytest.raises(InvalidQuery, match="there are: none at all"):
        table(row(0, quality="snow", reason="x")).usable("train")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"split": "acceptance"}, "split 'acceptance': train, val, test, other are possible"),
        ({"role": "both"}, "role 'both': pair, clear are possible"),
        ({"quality": "fine"}, "quality 'fine': ok, no_cloud"),
        ({"layout": "landsat"}, "layout 'landsat'"),
        ({"quality": "snow"}, "quality snow with the reason ''"),
        ({"reason": "why"}, "quality ok with the reason 'why'"),
        ({"cloudy_href": None}, "is a pair without cloudy_href"),
        ({"clear_href": None}, "clear_href is empty"),
        ({"group": None}, "group is empty"),
        ({"cloudy_fraction": 1.01}, "cloudy_fraction 1.01 is no share of 0..1"),
        ({"snow_clear": -0.1}, "snow_clear -0.1 is no share"),
        ({"row": 1}, "has some of row, col, height, width"),
        ({"geometry": None}, "its geometry is empty"),
        ({"split": "val"}, "its group ROIs1158_spring_1 is in more than one split"),
        ({"id": "ROIs1158_spring_1_p1"}, "its id is there twice"),
        ({"row": 1.5, "col": 0, "height": 1, "width": 1}, "column row: 1.5 is no whole number"),
        ({"clear_date": "someday"}, "column clear_date: "),
        ({"shift": "far"}, "column shift: could not convert"),
        ({"cloudiness": 1}, "no column is called cloudiness"),
    ],
)
def test_rows_that_cannot_be(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidItem) as raised:
        table(row(0) | changes, row(1))
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def written(folder: Path) -> Path:
    path = folder / "pairs.parquet"
    table(*FULL).write(path)
    return path


def rewritten(path: Path, change: Any, metadata: dict[str, Any] | None = None) -> None:
    """The table at `path` as somebody else would change it: rows by pandas, our metadata kept or changed."""
    arrow = pq.read_table(path)
    kept = arrow.schema.metadata
    changed = change(arrow)
    if metadata is not None:
        kept = kept | {b"declouder": json.dumps(json.loads(kept[b"declouder"]) | metadata).encode()}
    pq.write_table(changed.replace_schema_metadata(kept), path)


def spoil_split(arrow: Any) -> Any:
    values = ["val" if value == "test" else value for value in arrow["split"].to_pylist()]
    return arrow.set_column(arrow.schema.names.index("split"), "split", [values])


def spoil_geometry(arrow: Any) -> Any:
    index = arrow.schema.names.index("geometry")
    return arrow.set_column(index, arrow.schema.field(index), [[b"garbage"] * arrow.num_rows])


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda path: path.unlink(), "no such pair table"),
        (lambda path: (path.unlink(), path.mkdir()), "no such pair table"),
        (lambda path: path.write_text("id,place\na,b\n"), "is no GeoParquet file"),
        (lambda path: path.write_bytes(b""), "is no GeoParquet file"),
        (lambda path: path.write_bytes(path.read_bytes()[:-100]), "is no GeoParquet file"),
        (lambda path: path.write_bytes(path.read_bytes()[:200] + bytes(600) + path.read_bytes()[800:]), "cannot be read"),
        (lambda path: geopandas.GeoDataFrame({"a": [1]}, geometry=[box(0, 0, 1, 1)]).to_parquet(path), "no pair table of decloud"),
        (lambda path: rewritten(path, lambda table: table.drop_columns(["quality", "shift"])), "lacks the columns quality, shift"),
        (lambda path: rewritten(path, lambda table: table.drop_columns(["geometry"])), "lacks the column geometry"),
        (lambda path: rewritten(path, lambda table: table.slice(0, 0)), "holds no row"),
        (lambda path: rewritten(path, lambda table: table, {"version": 2}), "is of version 2, version 1 is read"),
        (lambda path: rewritten(path, lambda table: table, {"layout": "x"}), "layout 'x' is none of"),
        (lambda path: rewritten(path, spoil_geometry), "cannot be read"),
        (lambda path: pq.write_table(pq.read_table(path).replace_schema_metadata({b"declouder": b"[" * 100_000}), path), "is no GeoParquet file"),
        (lambda path: rewritten(path, spoil_split), "groups or splits were altered since it was made"),
        (lambda path: rewritten(path, lambda table: table.slice(0, 1)), "groups or splits were altered"),
        (lambda path: rewritten(path, lambda table: table, {"split_hash": "0"}), "groups or splits were altered"),
    ],
)  # fmt: skip
def test_tables_that_are_not_whole(tmp_path: Path, spoil: Any, said: str) -> None:
    path = written(tmp_path)
    spoil(path)
    with pytest.raises(InvalidItem) as raised:
        PairTable.read(path)
    message = str(raised.value)
    assert message.startswith(f"{path}: ")
    assert said in message
    assert "\n" not in message
    if "layout 'x'" not in said:
        assert f"make it again with `decloud pairs ROOT --layout ... --output {path}`" in message


def test_every_quality_has_a_place(tmp_path: Path) -> None:
    rows = [row(number, quality=name, reason="" if name == "ok" else "why") for number, name in enumerate(QUALITIES)]
    table(*rows).write(tmp_path / "pairs.parquet")
    assert set(PairTable.read(tmp_path / "pairs.parquet").frame["quality"]) == set(QUALITIES)


def test_tables_used_together_share_no_ground_between_splits() -> None:
    pairs = table(row(0), row(1), row(5, group="ROIs1158_spring_9", split="val"))
    other = PairTable.from_rows(
        [
            row(1, id="a", group="ROIs1158_1", split="test", layout="sen12mscr-ts"),
            row(7, id="b", group="ROIs1158_7", split="test", layout="sen12mscr-ts"),
        ],
        layout="sen12mscr-ts",
    )
    (first, second), rejects = kept_apart([pairs, other])
    assert list(first.frame["id"]) == ["ROIs1158_spring_1_p0", "ROIs1158_spring_1_p5"]
    assert second is other
    assert [(reject.path, reject.reason) for reject in rejects] == [
        ("pair table: ROIs1158_spring_1", "1 of its rows for train lie on ground of another split: left out")
    ]
    assert kept_apart([pairs])[0] == [pairs]
    nothing, _ = kept_apart([table(row(1)), other])
    assert nothing[0].frame.empty
