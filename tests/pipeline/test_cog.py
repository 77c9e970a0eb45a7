"""COGs: the same pixels, grid, type and nodata as were handed over, in a layout that others call valid; or nothing."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from rio_cogeo.cogeo import cog_validate

from pipeline import cog
from pipeline.cog import CogSink
from pipeline.errors import WriteFailed
from pipeline.layers import Layer, cloudmask_layer, confidence_layer, provenance_layer


def grid(shape: tuple[int, int], crs: str = "EPSG:32633", size: float = 10) -> GeoBox:
    return GeoBox(shape, Affine(size, 0, 499980.5, 0, -size, 5100000.25), crs)


def band(shape: tuple[int, int], nodata: int | None = 0, name: str = "B02", **kwargs) -> Layer:
    return Layer(name, "blue", grid(shape, **kwargs), "uint16", nodata)


def write(sink, layer: Layer, pixels: np.ndarray, step: int = 100) -> None:
    for row in range(0, layer.shape[0], step):
        sink.write(layer.name, row, pixels[row : row + step])


def noise(layer: Layer, seed: int = 0) -> np.ndarray:
    top = 6 if layer.categories else 65536
    return np.random.default_rng(seed).integers(0, top, layer.shape, dtype=layer.dtype)


SHAPES = [(1, 1), (3, 5), (1, 700), (700, 1), (700, 2), (512, 512), (513, 511), (1024, 512), (512, 1024), (700, 1300)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_any_size_gives_a_valid_cog_on_the_same_grid(tmp_path, shape):
    made = [band(shape, 0, "B02"), band(shape, 65535, "B03"), band(shape, None, "B04"), provenance_layer(grid(shape))]
    sink = CogSink(tmp_path, made, threads=2)
    pixels = {layer.name: noise(layer) for layer in made}
    for layer in made:
        write(sink, layer, pixels[layer.name])
    sink.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "B02.tif",
        "B03.tif",
        "B04.tif",
        "provenance.tif",
        "provenance.tif.aux.xml",
    ]
    for layer in made:
        path = tmp_path / layer.filename
        with rasterio.open(path) as file:
            np.testing.assert_array_equal(file.read(1), pixels[layer.name])
            assert file.crs == rasterio.CRS.from_epsg(32633)
            assert file.transform == layer.geobox.transform
            assert (file.dtypes, file.nodata, file.count) == ((layer.dtype,), layer.nodata, 1)
            assert file.compression.name.lower() == "zstd"
            assert file.descriptions == (layer.name,)
        valid, errors, warnings = cog_validate(str(path), quiet=True)
        assert (valid, errors) == (True, [])
        assert not warnings or shape[1] == 1


@settings(deadline=None, max_examples=12)
@given(heights=st.lists(st.integers(1, 40), min_size=1, max_size=12), seed=st.integers(0, 99))
def test_stripes_do_not_show(tmp_path_factory, heights, seed):
    """However the rows are cut, the files are the same, byte for byte."""
    layer = band((sum(heights), 33))
    pixels = noise(layer, seed)
    files = []
    for cuts in (heights, [sum(heights)]):
        folder = tmp_path_factory.mktemp("cog")
        sink = CogSink(folder, [layer])
        for row, height in zip(itertools.accumulate([0, *cuts[:-1]]), cuts, strict=True):
            sink.write("B02", row, pixels[row : row + height])
        sink.close()
        files.append((folder / "B02.tif").read_bytes())
    assert files[0] == files[1]


def test_threads_do_not_show(tmp_path):
    layer = band((1100, 900))
    for threads in (1, 3):
        sink = CogSink(tmp_path / str(threads), [layer], threads=threads)
        write(sink, layer, noise(layer))
        sink.close()
    assert (tmp_path / "1" / "B02.tif").read_bytes() == (tmp_path / "3" / "B02.tif").read_bytes()


def test_overviews_average_without_nodata(tmp_path):
    """Squares of 2 x 2 with one, two or three pixels of nodata have the mean of the others."""
    square = np.array([[100, 0], [200, 0]], np.uint16)
    layer = band((1024, 1024))
    pixels = np.tile(square, (512, 512))
    pixels[512:] = 0
    sink = CogSink(tmp_path, [layer])
    write(sink, layer, pixels)
    sink.close()
    with rasterio.open(tmp_path / "B02.tif", overview_level=0) as file:
        small = file.read(1)
    assert small.shape == (512, 512)
    assert (small[:256] == 150).all()
    assert (small[256:] == 0).all()


def test_overviews_of_classes_hold_only_classes_that_are_there(tmp_path):
    layer = provenance_layer(grid((1024, 1024)))
    pixels = np.where(np.random.default_rng(0).random((1024, 1024)) < 0.5, 1, 5).astype(np.uint8)
    sink = CogSink(tmp_path, [layer])
    write(sink, layer, pixels)
    sink.close()
    with rasterio.open(tmp_path / "provenance.tif", overview_level=0) as file:
        assert set(np.unique(file.read(1))) == {1, 5}


def test_confidence_is_a_quantity_with_a_unit_and_its_definition(tmp_path):
    layer = confidence_layer(grid((1024, 1024)))
    pixels = np.tile(np.array([[100, 255], [60, 255]], np.uint8), (512, 512))
    pixels[512:] = 255
    sink = CogSink(tmp_path, [layer])
    write(sink, layer, pixels)
    sink.close()
    # Without classes there is nothing to say beside the file.
    assert [path.name for path in tmp_path.iterdir()] == ["confidence.tif"]
    with rasterio.open(tmp_path / "confidence.tif") as file:
        assert np.array_equal(file.read(1), pixels)
        assert (file.units, file.nodata, file.dtypes) == (("%",), 255, ("uint8",))
        assert file.tags()["TIFFTAG_IMAGEDESCRIPTION"] == layer.description
        assert file.colorinterp[0].name == "gray"
    with rasterio.open(tmp_path / "confidence.tif", overview_level=0) as file:
        small = file.read(1)
    assert (small[:256] == 80).all()
    assert (small[256:] == 255).all()


def test_classes_carry_their_colours_and_names(tmp_path):
    made = [provenance_layer(grid((20, 30))), cloudmask_layer(grid((20, 30)))]
    sink = CogSink(tmp_path, made)
    for layer in made:
        write(sink, layer, noise(layer))
    sink.close()
    for layer in made:
        with rasterio.open(tmp_path / layer.filename) as file:
            assert file.colorinterp[0].name == "palette"
            table = file.colormap(1)
            assert {value: table[value] for value in layer.colours} == dict(layer.colours)
            assert file.tags(1) == {f"class_{value}": name for value, name in layer.categories.items()}
        # rasterio cannot read category names; a VRT made by GDAL from the file shows that GDAL can.
        from rasterio.shutil import copy

        copy(str(tmp_path / layer.filename), str(tmp_path / "names.vrt"), driver="VRT")
        text = (tmp_path / "names.vrt").read_text()
        assert [f"<Category>{name}</Category>" in text for name in layer.categories.values()] == [True] * 6


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3035", "EPSG:32733", "+proj=laea +lat_0=10 +lon_0=20 +datum=WGS84"])
def test_any_crs_survives(tmp_path, crs):
    layer = Layer("B02", "blue", GeoBox((9, 7), Affine(1e-4, 0, 15.123456789, 0, -1e-4, 45.98765), crs), "uint16", 0)
    sink = CogSink(tmp_path, [layer])
    write(sink, layer, noise(layer))
    sink.close()
    with rasterio.open(tmp_path / "B02.tif") as file:
        assert file.crs == rasterio.CRS.from_user_input(crs)
        assert file.transform == layer.geobox.transform


def test_a_rotated_grid_survives(tmp_path):
    transform = Affine(10, 0, 5e5, 0, -10, 5e6) @ Affine.rotation(30)
    layer = Layer("B02", "blue", GeoBox((9, 7), transform, "EPSG:32633"), "uint16", 0)
    sink = CogSink(tmp_path, [layer])
    write(sink, layer, noise(layer))
    sink.close()
    with rasterio.open(tmp_path / "B02.tif") as file:
        assert file.transform == transform


@pytest.mark.parametrize(
    ("row", "data", "reason"),
    [
        (5, np.zeros((5, 30), np.uint16), "rows 5..10 do not follow 0 of 20 rows"),
        (0, np.zeros((21, 30), np.uint16), "rows 0..21 do not follow 0 of 20 rows"),
        (0, np.zeros((5, 29), np.uint16), r"shape \(5, 29\), expected \(rows, 30\)"),
        (0, np.zeros((1, 5, 30), np.uint16), "expected"),
        (0, np.zeros((5, 30), np.float32), "stripe of type float32, expected uint16"),
        (0, np.zeros((5, 30), np.uint8), "stripe of type uint8, expected uint16"),
    ],
)
def test_a_wrong_stripe_is_refused(tmp_path, row, data, reason):
    sink = CogSink(tmp_path, [band((20, 30))])
    with pytest.raises(WriteFailed, match=reason):
        sink.write("B02", row, data)
    sink.abort()
    assert list(tmp_path.iterdir()) == []


def test_missing_rows_are_an_error_and_leave_nothing(tmp_path):
    sink = CogSink(tmp_path, [band((20, 30)), band((20, 30), name="B03")])
    sink.write("B02", 0, np.ones((20, 30), np.uint16))
    sink.write("B03", 0, np.ones((19, 30), np.uint16))
    with pytest.raises(WriteFailed, match="layer B03: only 19 of 20 rows were written"):
        sink.close()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(WriteFailed, match="no open layer 'B03'"):
        sink.write("B03", 19, np.ones((1, 30), np.uint16))


def test_two_layers_of_one_name_and_an_unknown_name_are_refused(tmp_path):
    with pytest.raises(WriteFailed, match="two layers have the same name"):
        CogSink(tmp_path, [band((2, 2)), band((2, 2))])
    sink = CogSink(tmp_path, [band((2, 2))])
    with pytest.raises(WriteFailed, match="no open layer 'B99'"):
        sink.write("B99", 0, np.ones((2, 2), np.uint16))
    sink.abort()
    sink.abort()


def test_a_stripe_may_be_a_view_or_big_endian(tmp_path):
    layer = band((20, 30))
    pixels = noise(layer)
    sink = CogSink(tmp_path, [layer])
    sink.write("B02", 0, np.asfortranarray(pixels[:10]))
    sink.write("B02", 10, np.repeat(pixels[10:], 2, axis=1)[:, ::2])
    sink.close()
    with rasterio.open(tmp_path / "B02.tif") as file:
        np.testing.assert_array_equal(file.read(1), pixels)


def test_a_file_that_reads_back_differently_does_not_count(tmp_path, monkeypatch):
    """A disk that loses what it was given: the flat file is changed behind our back."""
    layer = band((20, 30))
    sink = CogSink(tmp_path, [layer])
    write(sink, layer, noise(layer))
    convert = sink._convert

    def lose(layer: Layer) -> None:
        path = tmp_path / ".B02.raw"
        content = bytearray(path.read_bytes())
        content[600] ^= 1
        path.write_bytes(content)
        convert(layer)

    monkeypatch.setattr(sink, "_convert", lose)
    with pytest.raises(WriteFailed, match="reads back other pixels than were written"):
        sink.close()
    assert list(tmp_path.iterdir()) == []


def test_another_grid_than_the_layers_does_not_count(tmp_path, monkeypatch):
    layer = band((20, 30))
    other = {"grid": band((20, 30), size=20), "nodata": band((20, 30), nodata=None)}
    for name, wrong in other.items():
        sink = CogSink(tmp_path / name, [layer])
        write(sink, layer, noise(layer))
        text = cog.flat_vrt(wrong, ".B02.raw")
        with monkeypatch.context() as patch:
            patch.setattr(cog, "flat_vrt", lambda *_, text=text: text)
            with pytest.raises(WriteFailed, match="differ"):
                sink.close()
        assert list((tmp_path / name).iterdir()) == []


def test_a_file_that_the_validator_refuses_does_not_count(tmp_path, monkeypatch):
    monkeypatch.setattr(cog, "PROFILE", {**cog.PROFILE, "OVERVIEWS": "NONE"})
    layer = band((600, 600))
    sink = CogSink(tmp_path, [layer])
    write(sink, layer, noise(layer))
    with pytest.raises(WriteFailed, match=r"is no valid cloud optimized GeoTIFF: .*overviews"):
        sink.close()
    assert list(tmp_path.iterdir()) == []


FULL = """
import resource, sys
import numpy as np
from pathlib import Path
sys.path[:0] = [sys.argv[2]]
from pipeline.errors import WriteFailed
from tests.pipeline.test_cog import band, noise, write, CogSink
folder, limit = Path(sys.argv[1]), int(sys.argv[3])
layer = band((700, 600))
sink = CogSink(folder, [layer])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    write(sink, layer, noise(layer))
    print("written")
    sink.close()
except WriteFailed as error:
    sink.abort()
    print("WriteFailed", error)
print(sorted(path.name for path in folder.iterdir()))
"""


@pytest.mark.parametrize(("limit", "stage"), [(400_000, "write"), (850_000, "close")])
def test_a_full_disk_leaves_no_half_file(tmp_path, limit, stage):
    """The kernel refuses to let files grow: while rows are appended, then while GDAL writes noise that does not shrink."""
    root = str(Path(__file__).resolve().parents[2])
    out = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path), root, str(limit)], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert ("written" in out) == (stage == "close")
    message = next(line for line in out if line.startswith("WriteFailed"))
    assert str(tmp_path / "B02.tif") in message
    assert ("no space left" in message) or stage == "close"
    assert out[-1] == "[]"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_one_line(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(WriteFailed, match="no permission to write: choose another --output"):
        CogSink(tmp_path / "product", [band((2, 2))])


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteFailed, match="cannot be written") as caught:
        CogSink(tmp_path / "file" / "product", [band((2, 2))])
    assert "\n" not in str(caught.value)
