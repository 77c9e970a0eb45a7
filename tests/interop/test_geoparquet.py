"""stac-geoparquet turns the catalogue of an output into a table, which others read, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import geopandas
import pyarrow.parquet as pq
import pystac
import pytest
import stac_geoparquet.arrow as to_arrow

from tests.interop.conftest import Made


def items_of(made: Made) -> list[dict[str, Any]]:
    """The catalogue's items, and one more that has what the first has not: a table has one set of columns for all."""
    catalogue = pystac.Catalog.from_file(str(made.product.folder.parent / "catalog.json"))
    (item,) = [item.to_dict() for item in catalogue.get_items()]
    other = pystac.Item.from_dict(item).to_dict()
    other["id"] += "_later"
    other["properties"]["declouder:references_skipped"] = [{"id": f"S2_{made.source.id}", "reason": "40 days away"}]
    other["properties"]["declouder:references"] = []
    return [item, other]


@pytest.fixture
def table(made: Made, tmp_path: Path) -> Path:
    path = tmp_path / "items.parquet"
    to_arrow.to_parquet(to_arrow.parse_stac_items_to_arrow(items_of(made)), path)
    return path


def without_blanks(value: Any) -> Any:
    """JSON without what says nothing: a table gives None to every field that some other row has. Links only say that they are there."""
    if isinstance(value, dict):
        return {name: without_blanks(part) for name, part in value.items() if part not in (None, {}, [])}
    return [without_blanks(part) for part in value] if isinstance(value, list) else value


def test_items_come_back_as_they_were(made: Made, table: Path) -> None:
    back = list(to_arrow.stac_table_to_items(pq.read_table(table)))
    for before, after in zip(items_of(made), back, strict=True):
        for moment in ("datetime", "created", "updated"):
            times = [pystac.utils.str_to_datetime(entry["properties"].pop(moment)) for entry in (before, after)]
            assert times[0] == times[1]
        assert without_blanks(after) == without_blanks(before)


def test_a_table_has_columns_for_what_is_known_beforehand_only(made: Made, table: Path) -> None:
    """A field that is called by an item's id would be a column for each item of a long series."""
    names = str(pq.read_schema(table))
    assert made.source.id not in names
    assert "declouder:references_skipped: list" in names


def test_geopandas_finds_products_by_place_and_share(made: Made, table: Path) -> None:
    frame = geopandas.read_parquet(table)
    assert frame.crs.to_epsg() == 4326
    (west, south, east, north) = made.product.item["bbox"]
    assert len(frame.cx[west:east, south:north]) == 2
    assert frame.cx[west - 20 : west - 10, south:north].empty
    shares = frame["declouder:provenance"].map(lambda found: found["observed"])
    assert list(shares) == [made.product.provenance["observed"]] * 2
    assert list(frame["id"]) == [made.product.id, f"{made.product.id}_later"]
