"""Zarr stores: plain `xr.open_zarr` gives the same integers on the same grid; or there is no store."""

from __future__ import annotations

import itertools
import json

import numpy as np
import odc.geo.xr  # noqa: F401 (registers .odc)
import pytest
import rioxarray  # noqa: F401 (registers .rio)
import xarray as xr
import zarr
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from pipeline.errors import WriteFailed
from pipeline.layers import Layer, confidence_layer, provenance_layer
from pipeline.zarr_store import ZarrSink, group_names

# rioxarray computes transforms in a way that affine 3 announces to give up.
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")


def grid(shape: tuple[int, int], size: float = 10, crs: str = "EPSG:32633") -> GeoBox:
    return GeoBox(shape, Affine(size, 0, 499980, 0, -size, 5100000), crs)


def band(name: str, shape: tuple[int, int], size: float = 10, nodata: int | None = 0) -> Layer:
    return Layer(name, name, grid(shape, size), "uint16", nodata)


def noise(layer: Layer, seed: int = 0) -> np.ndarray:
    top = 6 if layer.categories else 65536
    return np.random.default_rng(seed).integers(0, top, layer.shape, dtype=layer.dtype)


def fill(sink: ZarrSink, made: list[Layer], step: int) -> dict[str, np.ndarray]:
    pixels = {layer.name: noise(layer) for layer in made}
    for layer in made:
        for row in range(0, layer.shape[0], step):
            sink.write(layer.name, row, pixels[layer.name][row : row + step])
    return pixels


@pytest.mark.parametrize("step", [77, 512, 10_000])
def test_xarray_reads_the_same_integers_on_the_same_grid(tmp_path, step):
    made = [
        band("B02", (1200, 660), nodata=0),
        band("B03", (1200, 660), nodata=None),
        band("B11", (600, 330), 20, nodata=65535),
        band("B01", (200, 110), 60),
        provenance_layer(grid((1200, 660))),
    ]
    sink = ZarrSink(tmp_path, "item", made, threads=2)
    pixels = fill(sink, made, step)
    sink.close()
    groups = {"r10m": ["B02", "B03", "provenance"], "r20m": ["B11"], "r60m": ["B01"]}
    for group, names in groups.items():
        with xr.open_zarr(tmp_path / "item.zarr", group=group) as data:
            assert sorted(data.data_vars) == names
            assert set(data.coords) == {"x", "y", "spatial_ref"}
            for layer in (layer for layer in made if layer.name in names):
                found = data[layer.name]
                assert found.dtype == layer.dtype
                assert found.dims == ("y", "x")
                np.testing.assert_array_equal(found.values, pixels[layer.name])
                assert found.rio.crs.to_epsg() == 32633
                assert found.rio.transform() == layer.geobox.transform
                assert found.rio.nodata == layer.nodata
                assert found.odc.geobox == layer.geobox
            assert data.attrs["proj:code"] == "EPSG:32633"
            assert data.attrs["spatial:shape"] == list(layer.shape)
            assert Affine(*data.attrs["spatial:transform"]) == layer.geobox.transform
    with xr.open_datatree(tmp_path / "item.zarr", engine="zarr") as tree:
        assert set(tree.children) == set(groups)
    with xr.open_zarr(tmp_path / "item.zarr", group="r10m") as data:
        assert data.provenance.attrs["flag_meanings"].split() == [
            "nodata",
            "observed",
            "blended",
            "restored",
            "generated",
            "refused",
        ]


def test_chunks_and_shards_are_aligned_and_each_shard_is_one_file(tmp_path):
    layer = band("B02", (1100, 5000))
    sink = ZarrSink(tmp_path, "item", [layer])
    fill(sink, [layer], 300)
    sink.close()
    array = zarr.open_array(tmp_path / "item.zarr", path="r10m/B02", mode="r")
    assert (array.chunks, array.shards, array.metadata.zarr_format) == ((512, 512), (512, 4096), 3)
    files = sorted(path.relative_to(tmp_path / "item.zarr/r10m/B02").as_posix() for path in tmp_path.rglob("c/*/*"))
    assert files == [f"c/{row}/{col}" for row in range(3) for col in range(2)]


def test_each_shard_is_written_once(tmp_path, monkeypatch):
    layer = band("B02", (1300, 40))
    sink = ZarrSink(tmp_path, "item", [layer])
    written: list[str] = []
    real = zarr.storage.LocalStore.set

    async def note(self, key, value):
        written.append(key)
        await real(self, key, value)

    monkeypatch.setattr(zarr.storage.LocalStore, "set", note)
    fill(sink, [layer], 90)
    assert sorted(written) == [f"r10m/B02/c/{row}/0" for row in range(3)]


@settings(deadline=None, max_examples=8)
@given(heights=st.lists(st.integers(1, 700), min_size=1, max_size=5), seed=st.integers(0, 99))
def test_stripes_do_not_show(tmp_path_factory, heights, seed):
    layer = band("B02", (sum(heights), 9))
    pixels = noise(layer, seed)
    stores = []
    for cuts in (heights, [sum(heights)]):
        folder = tmp_path_factory.mktemp("zarr")
        sink = ZarrSink(folder, "item", [layer])
        for row, height in zip(itertools.accumulate([0, *cuts[:-1]]), cuts, strict=True):
            sink.write("B02", row, pixels[row : row + height])
        sink.close()
        stores.append({path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()})
    assert stores[0] == stores[1]


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (512, 512), (513, 511)], ids=str)
def test_any_size_and_empty_layers(tmp_path, shape):
    layer, empty = band("B02", shape), band("B03", shape, nodata=65535)
    sink = ZarrSink(tmp_path, "item", [layer, empty])
    fill(sink, [layer], 64)
    sink.write("B03", 0, np.full(shape, 65535, np.uint16))
    sink.close()
    with xr.open_zarr(tmp_path / "item.zarr", group="r10m") as data:
        np.testing.assert_array_equal(data.B02.values, noise(layer))
        assert (data.B03.values == 65535).all()
        assert data.B02.rio.crs.to_epsg() == 32633


def test_a_stripe_may_be_changed_after_it_was_handed_over(tmp_path):
    layer = band("B02", (600, 9))
    sink, pixels = ZarrSink(tmp_path, "item", [layer]), noise(band("B02", (600, 9)))
    buffer = np.empty((100, 9), np.uint16)
    for row in range(0, 600, 100):
        buffer[:] = pixels[row : row + 100]
        sink.write("B02", row, buffer)
    sink.close()
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "item.zarr", path="r10m/B02", mode="r")[:], pixels)


@pytest.mark.parametrize(
    ("crs", "size", "name"),
    [
        ("EPSG:32633", 10, "r10m"),
        ("EPSG:32633", 2.5, "r2.5m"),
        ("EPSG:4326", 0.0001, "r0.0001deg"),
        ("EPSG:2263", 30, "r30"),
    ],
)
def test_groups_are_named_by_resolution(crs, size, name):
    layer = Layer("B02", "B02", GeoBox((4, 4), Affine(size, 0, 10, 0, -size, 20), crs), "uint16", 0)
    assert group_names([layer]) == {"B02": name}


def test_grids_of_one_resolution_but_different_extent_have_their_own_groups():
    made = [band("B02", (4, 4)), band("B03", (4, 5)), band("B04", (4, 4)), band("B08", (5, 5))]
    assert group_names(made) == {"B02": "r10m", "B03": "r10m_2", "B04": "r10m", "B08": "r10m_3"}
    oblong = Layer("B05", "B05", GeoBox((4, 4), Affine(10, 0, 0, 0, -20, 0), "EPSG:32633"), "uint16", 0)
    assert group_names([oblong]) == {"B05": "r10x20m"}


@pytest.mark.parametrize("crs", ["EPSG:4326", "+proj=laea +lat_0=10 +lon_0=20 +datum=WGS84"])
def test_any_crs_and_a_rotated_grid_survive(tmp_path, crs):
    straight = Layer("B02", "B02", GeoBox((9, 7), Affine(1e-4, 0, 15.123456789, 0, -1e-4, 45.9), crs), "uint16", 0)
    turned = Layer("B03", "B03", GeoBox((9, 7), Affine(3, 1, 15, 1, -3, 45), crs), "uint16", 0)
    sink = ZarrSink(tmp_path, "item", [straight, turned])
    fill(sink, [straight, turned], 9)
    sink.close()
    names = group_names([straight, turned])
    for layer in (straight, turned):
        with xr.open_zarr(tmp_path / "item.zarr", group=names[layer.name]) as data:
            assert data[layer.name].rio.crs == layer.geobox.crs
            np.testing.assert_allclose(data[layer.name].rio.transform()[:6], layer.geobox.transform[:6], rtol=1e-9)


def test_missing_rows_are_an_error_and_leave_nothing(tmp_path):
    sink = ZarrSink(tmp_path, "item", [band("B02", (20, 30))])
    sink.write("B02", 0, np.ones((19, 30), np.uint16))
    with pytest.raises(WriteFailed, match="layer B02: only 19 of 20 rows were written"):
        sink.close()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(WriteFailed, match="no open layer 'B02'"):
        sink.write("B02", 19, np.ones((1, 30), np.uint16))
    sink.abort()


def test_a_wrong_stripe_is_refused(tmp_path):
    sink = ZarrSink(tmp_path, "item", [band("B02", (20, 30))])
    for row, data in (
        (1, np.ones((2, 30), np.uint16)),
        (0, np.ones((2, 3), np.uint16)),
        (0, np.ones((2, 30), np.uint8)),
    ):
        with pytest.raises(WriteFailed, match="layer B02"):
            sink.write("B02", row, data)
    with pytest.raises(WriteFailed, match="no open layer 'B99'"):
        sink.write("B99", 0, np.ones((2, 30), np.uint16))


def test_a_store_that_is_there_is_not_touched(tmp_path):
    ZarrSink(tmp_path, "item", [band("B02", (2, 3))])
    before = (tmp_path / "item.zarr" / "zarr.json").read_bytes()
    with pytest.raises(WriteFailed, match="is there already"):
        ZarrSink(tmp_path, "item", [band("B03", (2, 3))])
    assert (tmp_path / "item.zarr" / "zarr.json").read_bytes() == before
    with pytest.raises(WriteFailed, match="two layers have the same name"):
        ZarrSink(tmp_path, "other", [band("B03", (2, 3)), band("B03", (2, 3))])


def test_a_store_that_reads_back_differently_does_not_count(tmp_path):
    layer = band("B02", (20, 30))
    sink = ZarrSink(tmp_path, "item", [layer])
    fill(sink, [layer], 20)
    zarr.open_array(tmp_path / "item.zarr", path="r10m/B02", mode="r+")[3, 4] ^= 1
    with pytest.raises(WriteFailed, match="layer B02 reads back other pixels than were written"):
        sink.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("after", [0, 1, 5])
def test_a_full_disk_leaves_no_half_store(tmp_path, monkeypatch, after):
    """The n-th file that is written hits the end of the disk."""
    real, calls = zarr.storage.LocalStore.set, itertools.count()

    async def full(self, key, value):
        if next(calls) >= after:
            raise OSError(28, "No space left on device")
        await real(self, key, value)

    monkeypatch.setattr(zarr.storage.LocalStore, "set", full)
    layer = band("B02", (20, 30))

    def run() -> None:
        sink = ZarrSink(tmp_path, "item", [layer])
        try:
            fill(sink, [layer], 20)
            sink.close()
        except WriteFailed:
            sink.abort()
            raise

    with pytest.raises(WriteFailed, match=r"item\.zarr: no space left on the disk"):
        run()
    assert list(tmp_path.iterdir()) == []


def test_confidence_keeps_its_numbers_and_says_what_they_are(tmp_path):
    layer = confidence_layer(grid((20, 30)))
    pixels = np.random.default_rng(0).integers(0, 101, (20, 30)).astype(np.uint8)
    pixels[:3] = 255
    sink = ZarrSink(tmp_path, "item", [layer])
    sink.write("confidence", 0, pixels)
    sink.close()
    with xr.open_zarr(tmp_path / "item.zarr", group="r10m") as data:
        assert data.confidence.dtype == np.uint8
        np.testing.assert_array_equal(data.confidence.values, pixels)
        assert data.confidence.rio.nodata == 255
        assert data.confidence.attrs["units"] == "%"
        assert data.confidence.attrs["comment"] == layer.description


def test_metadata_hold_no_time_and_no_fill_value_that_masks(tmp_path):
    layer = band("B02", (20, 30))
    sink = ZarrSink(tmp_path, "item", [layer])
    fill(sink, [layer], 20)
    sink.close()
    found = json.loads((tmp_path / "item.zarr" / "r10m" / "B02" / "zarr.json").read_text())
    assert set(found["attributes"]) == {"long_name", "grid_mapping", "coordinates", "nodata"}
    assert found["fill_value"] == 0
