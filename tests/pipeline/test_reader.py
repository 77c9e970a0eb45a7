"""Reading windows: against rasterio's full reads, in threads, and from damaged files, which must never become zeros."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import rasterio

from pipeline.errors import InvalidScene, ReadFailed
from pipeline.reader import BandReader

from .made import write_raster

RNG = np.random.default_rng(7)
PIXELS = RNG.integers(1, 9000, (300, 420), dtype=np.uint16)
KINDS = {
    "raw.tif": {},
    "tiled.tif": {"tiled": True, "blockxsize": 128, "blockysize": 128},
    "deflate.tif": {"compress": "deflate", "predictor": 2},
    "zstd.tif": {"compress": "zstd", "tiled": True, "blockxsize": 128, "blockysize": 128},
    "tiles.jp2": {"driver": "JP2OpenJPEG", "BLOCKXSIZE": 128, "BLOCKYSIZE": 128},
    "one.jp2": {"driver": "JP2OpenJPEG", "BLOCKXSIZE": 512, "BLOCKYSIZE": 512},
}


@pytest.fixture
def reader():
    reader = BandReader()
    yield reader
    reader.close()


@pytest.mark.parametrize("name", KINDS)
def test_windows_equal_rasterios_full_read(tmp_path: Path, reader: BandReader, name: str) -> None:
    path = write_raster(tmp_path / name, PIXELS, **KINDS[name])
    with rasterio.open(path) as dataset:
        whole = dataset.read(1)
    np.testing.assert_array_equal(whole, PIXELS)
    for rows, cols in (
        (slice(0, 300), slice(0, 420)),
        (slice(120, 131), slice(250, 420)),
        (slice(299, 300), slice(0, 1)),
    ):
        np.testing.assert_array_equal(reader.read(str(path), 1, rows, cols), whole[rows, cols])


@pytest.mark.parametrize(
    ("rows", "cols"),
    [
        (slice(-1, 5), slice(0, 5)),
        (slice(0, 301), slice(0, 5)),
        (slice(5, 5), slice(0, 5)),
        (slice(0, 5), slice(400, 421)),
    ],
)
def test_a_window_outside_is_refused(tmp_path: Path, reader: BandReader, rows: slice, cols: slice) -> None:
    path = write_raster(tmp_path / "a.tif", PIXELS)
    with pytest.raises(ValueError, match="not inside 300 x 420"):
        reader.read(str(path), 1, rows, cols)


@pytest.mark.parametrize("kept", [0.02, 0.3, 0.6, 0.9, 0.999])
@pytest.mark.parametrize("name", KINDS)
def test_a_truncated_file_is_refused_when_opened(tmp_path: Path, reader: BandReader, name: str, kept: float) -> None:
    path = write_raster(tmp_path / name, PIXELS, **KINDS[name])
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(InvalidScene, match=name):
        reader.header(str(path))


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.999])
@pytest.mark.parametrize("name", KINDS)
def test_reading_a_file_that_was_truncated_later_never_gives_zeros(
    tmp_path: Path, reader: BandReader, name: str, kept: float
) -> None:
    path = write_raster(tmp_path / name, PIXELS, **KINDS[name])
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(InvalidScene, match=rf"{name}: rows 0-300, cols 0-420 cannot be read"):
        reader.read(str(path), 1, slice(0, 300), slice(0, 420))


def test_bare_codestream_named_tif_is_checked_too(shared_data: Path, tmp_path: Path, reader: BandReader) -> None:
    item = shared_data / "stac/earth-search/sentinel-2-l2a/S2B_33TWL_20230810_0_L2A"
    assert reader.header(str(item / "B02.tif")).shape == (915, 915)
    copy = tmp_path / "B02.tif"
    copy.write_bytes((item / "B02.tif").read_bytes()[:-700])
    (tmp_path / "B02.tif.aux.xml").write_bytes((item / "B02.tif.aux.xml").read_bytes())
    with pytest.raises(InvalidScene, match=r"B02.tif: truncated file"):
        reader.header(str(copy))


def test_missing_foreign_and_remote_files(tmp_path: Path, reader: BandReader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GDAL_HTTP_RETRY_DELAY", "0.02")  # as many tries as a user's run, in less time
    with pytest.raises(InvalidScene, match="no such file"):
        reader.header(str(tmp_path / "gone.tif"))
    with pytest.raises(InvalidScene, match="is a folder"):
        reader.header(str(tmp_path))
    text = tmp_path / "text.tif"
    text.write_text("not a raster")
    with pytest.raises(InvalidScene, match=r"text.tif: cannot be opened"):
        reader.header(str(text))
    with pytest.raises(ReadFailed, match="perhaps only now"):
        reader.header("http://127.0.0.1:9/B02.tif")  # nothing listens there


def test_threads_share_a_reader(tmp_path: Path, reader: BandReader) -> None:
    path = str(write_raster(tmp_path / "a.tif", PIXELS, **KINDS["zstd.tif"]))
    windows = [(slice(r, r + 40), slice(c, c + 60)) for r in range(0, 260, 20) for c in range(0, 360, 60)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda window: reader.read(path, 1, *window), windows))
    for window, pixels in zip(windows, found, strict=True):
        np.testing.assert_array_equal(pixels, PIXELS[window])


def test_a_reader_is_picklable_and_can_be_closed_twice(tmp_path: Path, reader: BandReader) -> None:
    path = str(write_raster(tmp_path / "a.tif", PIXELS))
    reader.read(path, 1, slice(0, 1), slice(0, 1))
    other = pickle.loads(pickle.dumps(reader))  # noqa: S301
    np.testing.assert_array_equal(other.read(path, 1, slice(0, 9), slice(0, 9)), PIXELS[:9, :9])
    other.close()
    other.close()
    assert other.read(path, 1, slice(0, 1), slice(0, 1))[0, 0] == PIXELS[0, 0]
    other.close()


def test_closing_while_a_file_is_read_closes_it_afterwards(tmp_path: Path, reader: BandReader) -> None:
    path = str(write_raster(tmp_path / "a.tif", PIXELS))
    with reader._borrow(path) as dataset:
        reader.close()
        assert not dataset.closed
    assert dataset.closed


@pytest.mark.parametrize("name", ["raw.tif", "zstd.tif", "tiles.jp2"])
def test_decimated_reads(tmp_path: Path, reader: BandReader, name: str) -> None:
    path = str(write_raster(tmp_path / name, PIXELS, **KINDS[name]))
    np.testing.assert_array_equal(reader.read_decimated(path, 1, 1), PIXELS)
    thin = reader.read_decimated(path, 1, 7)
    assert thin.shape == (43, 60)
    if name.endswith("tif"):
        rows, cols = (np.minimum(np.arange(3, length + 3, 7), length - 1) for length in PIXELS.shape)
        np.testing.assert_array_equal(thin, PIXELS[np.ix_(rows, cols)])
    with pytest.raises(ValueError, match="at least 1"):
        reader.read_decimated(path, 1, 0)


def test_decimated_reads_use_overviews(tmp_path: Path, reader: BandReader) -> None:
    path = write_raster(tmp_path / "a.tif", PIXELS)
    with rasterio.open(path, "r+") as dataset:
        dataset.build_overviews([2, 4], rasterio.enums.Resampling.average)
    thin = reader.read_decimated(str(path), 1, 4)
    assert thin.shape == (75, 105)
    means = PIXELS.reshape(75, 4, 105, 4).mean(axis=(1, 3))
    np.testing.assert_allclose(thin, means, atol=2)


@pytest.mark.parametrize(
    "text",
    [
        (
            '<VRTDataset rasterXSize="8" rasterYSize="8"><VRTRasterBand dataType="UInt16" band="1"><SimpleSource>'
            '<SourceFilename relativeToVRT="0">{secret}</SourceFilename><SourceBand>1</SourceBand></SimpleSource>'
            "</VRTRasterBand></VRTDataset>"
        ),
        (
            '<GDAL_WMS><Service name="TMS"><ServerUrl>http://127.0.0.1:9/${{z}}/${{x}}/${{y}}.png</ServerUrl></Service>'
            "<DataWindow><SizeX>8</SizeX><SizeY>8</SizeY></DataWindow><BandsCount>1</BandsCount></GDAL_WMS>"
        ),
    ],
)
def test_a_description_of_another_file_named_tif_is_not_followed(tmp_path: Path, text: str) -> None:
    secret = write_raster(tmp_path / "secret.tif", np.full((8, 8), 4242, np.uint16))
    innocent = tmp_path / "B02.tif"
    innocent.write_text(text.format(secret=secret))
    reader = BandReader()
    with pytest.raises(InvalidScene, match=r"B02\.tif: cannot be opened"):
        reader.header(str(innocent))
    reader.close()
