from __future__ import annotations

import contextlib
import math
import warnings
from pathlib import Path

import geopandas
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import MultiPolygon, Point, Polygon, box

from catalogs.aoi import parse_aoi
from catalogs.errors import InvalidQuery

LON = st.floats(-180, 180).map(lambda value: round(value, 6))
LAT = st.floats(-90, 90).map(lambda value: round(value, 6))


@settings(deadline=None, max_examples=60)
@given(LON, LAT, LON, LAT)
def test_a_box_covers_its_own_degrees_and_no_others(west: float, south: float, east: float, north: float) -> None:
    text = f"{west},{south},{east},{north}"
    if south >= north or west == east:
        with pytest.raises(InvalidQuery, match="no area"):
            parse_aoi(text)
        return
    if west > east and 360 + east - west > 180:
        with pytest.raises(InvalidQuery, match="write west before east"):
            parse_aoi(text)
        return
    area = parse_aoi(text)
    width = east - west if west < east else 360 + east - west
    assert area.geometry.is_valid
    assert math.isclose(area.geometry.area, width * (north - south), rel_tol=1e-6, abs_tol=1e-9)
    low, _, high, _ = area.geometry.bounds
    assert low >= -180
    assert high <= 180


@settings(deadline=None, max_examples=60)
@given(st.floats(-179, 179), st.floats(0.1, 20), st.floats(0.1, 20))
def test_bbox_gives_the_box_back_even_across_the_antimeridian(middle: float, left: float, right: float) -> None:
    west, east = ((value + 180) % 360 - 180 for value in (middle - left, middle + right))
    west, east = round(west, 4), round(east, 4)
    if west == east or abs(west) == 180 or abs(east) == 180:
        return
    assert parse_aoi(f"{west},-10,{east},10").bbox == (west, -10, east, 10)


def test_the_short_way_across_the_antimeridian() -> None:
    area = parse_aoi("179,-18,-178,-16").geometry
    assert area.contains(Point(179.5, -17))
    assert area.contains(Point(-178.5, -17))
    assert not area.intersects(Point(0, -17))


@pytest.mark.parametrize(
    "text",
    [
        "1,2,3",
        "1,2,3,4,5",
        "181,0,182,1",
        "0,-91,1,1",
        "0,0,1,91",
        "1e400,0,1,1",
        "200,10,-170,20",
        "16.2,45.2,15.2,45.9",
    ],
)
def test_boxes_that_are_none(text: str) -> None:
    with pytest.raises(InvalidQuery) as error:
        parse_aoi(text)
    assert text in str(error.value)


@settings(deadline=None, max_examples=60)
@given(st.text(alphabet="0123456789,.-+eE nai", max_size=25))
def test_any_text_is_an_area_or_a_clear_refusal(text: str) -> None:
    with contextlib.suppress(InvalidQuery):
        assert not parse_aoi(text).geometry.is_empty


@settings(max_examples=6, deadline=None)
@given(st.floats(14, 16), st.floats(44, 46), st.floats(0.01, 1))
def test_a_file_of_another_crs_comes_back_in_degrees(
    tmp_path_factory: pytest.TempPathFactory, lon: float, lat: float, size: float
) -> None:
    truth = box(lon, lat, lon + size, lat + size)
    path = tmp_path_factory.mktemp("aoi") / "area.gpkg"
    utm = geopandas.GeoSeries([truth.segmentize(size / 100)], crs=4326).to_crs(32633)
    utm.to_file(path)
    found = parse_aoi(path).geometry
    assert found.symmetric_difference(truth).area < 1e-5 * truth.area


def test_several_shapes_are_united_and_invalid_ones_repaired(tmp_path: Path) -> None:
    bow = Polygon([(0, 0), (2, 2), (2, 0), (0, 2)])
    assert not bow.is_valid
    path = tmp_path / "area.geojson"
    geopandas.GeoSeries([bow, box(10, 10, 11, 11)], crs=4326).to_file(path)
    found = parse_aoi(str(path)).geometry
    assert found.is_valid
    assert found.area == pytest.approx(2 + 1)


@pytest.mark.parametrize(
    "shape",
    [
        Polygon([(179, 0), (-179, 0), (-179, 1), (179, 1)]),
        Polygon([(179, 0), (181, 0), (181, 1), (179, 1)]),
        Polygon([(-181, 0), (-179, 0), (-179, 1), (-181, 1)]),
        MultiPolygon([box(179, 0, 180, 1), box(-180, 0, -179, 1)]),
    ],
)
def test_every_way_to_write_the_antimeridian_is_the_same_area(tmp_path: Path, shape: shapely.Geometry) -> None:
    path = tmp_path / "area.gpkg"
    geopandas.GeoSeries([shape], crs=4326).to_file(path)
    found = parse_aoi(path)
    assert found.geometry.equals(MultiPolygon([box(-180, 0, -179, 1), box(179, 0, 180, 1)]))
    assert found.bbox == (179, 0, -179, 1)


def test_a_file_in_utm_across_the_antimeridian(tmp_path: Path) -> None:
    path = tmp_path / "fiji.gpkg"
    geopandas.GeoSeries([box(800_000, 8_000_000, 900_000, 8_100_000)], crs=32760).to_file(path)
    found = parse_aoi(path)
    assert found.bbox[0] > 179
    assert found.bbox[2] < -179
    assert found.geometry.area < 2


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    bare = tmp_path / "bare.shp"
    geopandas.GeoSeries([box(0, 0, 1, 1)], crs=4326).to_file(bare)
    bare.with_suffix(".prj").unlink()
    (tmp_path / "text.geojson").write_text("no json")
    (tmp_path / "empty.geojson").write_text('{"type": "FeatureCollection", "features": []}')
    (tmp_path / "table.csv").write_text("a,b\n1,2\n")
    far = tmp_path / "far.gpkg"
    geopandas.GeoSeries([box(500_000, 0, 500_100, 100)], crs=4326).to_file(far)
    reasons = {
        "bare.shp": "no CRS", "text.geojson": "cannot be read", "empty.geojson": "no geometry", "table.csv": "no geometry",
        "far.gpkg": "no degrees", "missing.gpkg": "neither a box",
    }  # fmt: skip
    for name, reason in reasons.items():
        with pytest.raises(InvalidQuery, match=reason) as error:
            parse_aoi(tmp_path / name)
        assert name in str(error.value)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999"])
@pytest.mark.parametrize("kind", ["Polygon", "Point", "LineString"])
def test_coordinates_that_are_no_numbers(tmp_path: Path, value: str, kind: str) -> None:
    ring = f"[[{value}, 0], [1, 0], [1, 1], [{value}, 0]]"
    shape = {"Polygon": f"[{ring}]", "Point": f"[{value}, 1]", "LineString": ring}[kind]
    path = tmp_path / "area.geojson"
    path.write_text(
        '{"type": "FeatureCollection", "features": [{"type": "Feature", "properties": {}, '
        f'"geometry": {{"type": "{kind}", "coordinates": {shape}}}}}]}}'
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InvalidQuery, match=r"area\.geojson") as error:
            parse_aoi(path)
    assert "\n" not in str(error.value)


def test_coordinates_that_are_no_numbers_in_a_binary_file(tmp_path: Path) -> None:
    path = tmp_path / "area.parquet"
    bad = Polygon([(0, 0), (1, 0), (1, math.inf), (0, 1)])
    geopandas.GeoSeries([box(0, 0, 1, 1), bad], crs=4326).to_frame("geometry").to_parquet(path)
    with pytest.raises(InvalidQuery, match="no finite numbers: draw it again"):
        parse_aoi(path)
