"""Pixels from servers: by https and s3, from servers that fail; rasterio's own reading of the local file is the oracle."""

from __future__ import annotations

import json
import logging
import pickle
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import rasterio

from catalogs.item import SceneItem
from pipeline.cloudmask import make_cloud_mask
from pipeline.errors import InvalidScene, ReadFailed
from pipeline.reader import BandReader
from pipeline.references import select_references
from pipeline.scene import open_scene

from .conftest import SECRET
from .made import WHEN, made_item, write_raster

RNG = np.random.default_rng(7)
PIXELS = RNG.integers(1, 9000, (600, 820), dtype=np.uint16)
KINDS = {
    "cog.tif": {"tiled": True, "blockxsize": 128, "blockysize": 128, "compress": "deflate"},
    "tiles.jp2": {"driver": "JP2OpenJPEG", "BLOCKXSIZE": 128, "BLOCKYSIZE": 128},
}
QUERY = "?X-Amz-Signature=hush-hush&sig=hush-hush"


@dataclass(frozen=True)
class Server:
    folder: Path
    url: str

    def fault(self, **how: object) -> None:
        body = json.dumps(how).encode()
        request = urllib.request.Request(f"{self.url}/.faults", data=body, method="POST")  # noqa: S310 - loopback
        with urllib.request.urlopen(request) as answer:  # noqa: S310
            answer.read()

    def requests(self) -> list[str]:
        with urllib.request.urlopen(f"{self.url}/.log") as answer:  # noqa: S310
            return answer.read().decode().splitlines()


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("served")
    for name, options in KINDS.items():
        write_raster(folder / name, PIXELS, **options)
    (folder / "page.tif").write_text("<html>sign in</html>" * 2000)
    program = Path(__file__).with_name("flaky_server.py")
    with subprocess.Popen(
        [sys.executable, program, folder], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            yield Server(folder, f"http://127.0.0.1:{int(process.stdout.readline())}")
        finally:
            process.kill()


@pytest.fixture
def server(started: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setenv("GDAL_HTTP_RETRY_DELAY", "0.02")
    started.fault()
    return started


@pytest.fixture
def reader():
    reader = BandReader()
    yield reader
    reader.close()


def whole(path: Path) -> np.ndarray:
    with rasterio.open(path) as dataset:
        return dataset.read(1)


@pytest.mark.parametrize("name", KINDS)
def test_ranges_are_read_and_equal_the_local_file(server: Server, reader: BandReader, name: str) -> None:
    expected = whole(server.folder / name)
    href = f"{server.url}/{name}{QUERY}"
    local, remote = reader.header(str(server.folder / name)), reader.header(href)
    assert (remote.shape, remote.transform, remote.crs) == (local.shape, local.transform, local.crs)
    window = (slice(100, 400), slice(64, 500))
    np.testing.assert_array_equal(reader.read(href, 1, *window), expected[window])
    np.testing.assert_array_equal(
        reader.read_decimated(href, 1, 6), reader.read_decimated(str(server.folder / name), 1, 6)
    )
    # Of a signed URL GDAL asks the size by a GET without a range, which it ends after the headers.
    assert sum("bytes=" in line for line in server.requests()) >= 2


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(
    "fault",
    [{"mode": "cut", "times": 2}, {"mode": "cut", "after": 2, "times": 2}, {"mode": "status", "code": 503, "times": 3},
     {"mode": "status", "code": 500, "after": 2, "times": 6}, {"mode": "status", "code": 429, "times": 2},
     {"mode": "slow", "seconds": 0.2, "times": 3}],
    ids=lambda fault: "-".join(map(str, fault.values())),
)  # fmt: skip
def test_what_passes_is_tried_again_and_gives_the_same_pixels(
    server: Server, reader: BandReader, name: str, fault: dict
) -> None:
    server.fault(**fault)
    pixels = reader.read(f"{server.url}/{name}", 1, slice(0, 600), slice(0, 820))
    np.testing.assert_array_equal(pixels, whole(server.folder / name))


@pytest.mark.parametrize("name", KINDS)
def test_connections_cut_at_random_never_change_a_pixel(server: Server, reader: BandReader, name: str) -> None:
    """Windows of a file from several threads while one answer in a few is cut: right pixels or an error, never others."""
    expected, href = whole(server.folder / name), f"{server.url}/{name}"
    for after in (0, 1, 3, 6):
        reader.close()
        server.fault(mode="cut", after=after, times=3)
        windows = [(slice(r, r + 200), slice(c, c + 205)) for r in (0, 200, 400) for c in (0, 205, 410, 615)]
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda window: reader.read(href, 1, *window), windows))
        for window, pixels in zip(windows, found, strict=True):
            np.testing.assert_array_equal(pixels, expected[window])


@pytest.mark.parametrize(
    ("fault", "error", "reason"),
    [
        ({"mode": "cut"}, ReadFailed, "perhaps only now"),
        ({"mode": "cut", "after": 2}, ReadFailed, "cannot be read, perhaps only now"),
        ({"mode": "status", "code": 503}, ReadFailed, "perhaps only now: .*503"),
        ({"mode": "status", "code": 503, "after": 2}, ReadFailed, "perhaps only now: .*503"),
        ({"mode": "status", "code": 403}, InvalidScene, "not yours to read: .*403"),
        ({"mode": "status", "code": 401}, InvalidScene, "not yours to read: .*401"),
        ({"mode": "ignore-ranges"}, InvalidScene, "its server ignores range requests: download the file"),
    ],
    ids=str,
)
def test_what_does_not_pass_is_one_line_without_secrets(
    server: Server, reader: BandReader, caplog: pytest.LogCaptureFixture, fault: dict, error: type, reason: str
) -> None:
    caplog.set_level(logging.DEBUG)
    server.fault(**fault)
    with pytest.raises(error, match=reason) as caught:
        reader.read(f"{server.url}/cog.tif{QUERY}", 1, slice(0, 600), slice(0, 820))
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{server.url}/cog.tif: ")
    assert caught.value.transient == (error is ReadFailed)
    told = str(caught.value) + caplog.text
    assert "hush-hush" not in told
    if error is ReadFailed:
        assert "trying again in" in caplog.text
    # The server is well again, and nothing of its failure is remembered.
    server.fault()
    pixels = reader.read(f"{server.url}/cog.tif{QUERY}", 1, slice(0, 600), slice(0, 820))
    np.testing.assert_array_equal(pixels, PIXELS)


def test_missing_and_foreign_files_are_invalid(server: Server, reader: BandReader) -> None:
    with pytest.raises(InvalidScene, match="404"):
        reader.header(f"{server.url}/nowhere.tif{QUERY}")
    with pytest.raises(InvalidScene, match="no GeoTIFF and no JPEG 2000"):
        reader.header(f"{server.url}/page.tif")


@pytest.mark.parametrize("compress", ["deflate", "lzw"])
def test_a_block_that_comes_whole_and_cannot_be_decoded_is_damaged_for_good(
    server: Server, reader: BandReader, compress: str
) -> None:
    damaged(write_raster(server.folder / f"{compress}.tif", PIXELS, **KINDS["cog.tif"] | {"compress": compress}))
    with pytest.raises(InvalidScene, match=rf"^{server.url}/{compress}.tif: .* it is damaged: .*TIFFReadEncodedTile"):
        reader.read(f"{server.url}/{compress}.tif", 1, slice(0, 600), slice(0, 820))
    # Where not each try came so far, nobody knows.
    server.fault(mode="cut", after=2, times=1)
    with pytest.raises(ReadFailed, match="perhaps only now"):
        reader.read(f"{server.url}/{compress}.tif", 1, slice(0, 600), slice(0, 820))


def damaged(path: Path) -> Path:
    """As a disk or a broken upload leaves it: as long as before, some bytes in its midst are others."""
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 2000] = bytes(byte ^ 0x5A for byte in content[middle : middle + 2000])
    path.write_bytes(content)
    return path


def test_a_remote_date_that_is_damaged_is_passed_over_and_one_that_is_out_of_reach_is_not(server: Server) -> None:
    cloud = np.zeros((300, 300), np.bool_)
    cloud[50:150, 50:150] = True
    ground = RNG.integers(800, 4000, cloud.shape, dtype=np.uint16)

    def date(name: str, days: int, clouds: np.ndarray) -> SceneItem:
        pixels = np.where(clouds, 8000, ground).astype(np.uint16)
        where = server.folder / name
        item = made_item(where, {"B02": pixels}, scl=np.where(clouds, 9, 4), when=WHEN + timedelta(days=days), id=name)
        write_raster(where / "B02.tif", pixels, **KINDS["cog.tif"])
        return item

    def served(item: SceneItem, start: str) -> SceneItem:
        bands = {n: replace(a, href=f"{start}/{item.id}/{Path(a.href).name}") for n, a in item.bands.items()}
        return replace(item, bands=bands, scl=replace(item.scl, href=f"{start}/{item.id}/{Path(item.scl.href).name}"))

    clear = np.zeros_like(cloud)
    good, bad = date("good", 3, clear), date("bad", 1, clear)
    damaged(server.folder / "bad" / "B02.tif")
    with open_scene(date("scene", 0, cloud)) as scene:
        mask = make_cloud_mask(scene, "auto", 0)
        found = select_references(scene, mask, [served(good, server.url), served(bad, server.url)], 1, 30)
        for reference in found.references:
            reference.scene.close()
        assert [reference.id for reference in found.references] == ["good"]
        assert "it is damaged" in found.skipped["bad"]
        local = select_references(scene, mask, [good, bad], 1, 30)
        assert [reference.id for reference in local.references] == ["good"]
        assert set(local.skipped) == {"bad"}
        for reference in local.references:
            reference.scene.close()
        nowhere = served(bad, "http://127.0.0.1:9")
        with pytest.raises(ReadFailed, match=r"^bad, which may be .*127.0.0.1:9.* --window-days, or --references 0$"):
            select_references(scene, mask, [served(good, server.url), nowhere], 1, 30)


def test_the_grid_may_stand_beside_a_file(server: Server, reader: BandReader, shared_data: Path) -> None:
    source = shared_data / "stac/earth-search/sentinel-2-l2a/S2B_33TWL_20230810_0_L2A"
    for name in ("SCL.tif", "SCL.tif.aux.xml"):
        (server.folder / name).write_bytes((source / name).read_bytes())
    local, remote = reader.header(str(source / "SCL.tif")), reader.header(f"{server.url}/SCL.tif")
    assert remote.crs is not None
    assert (remote.shape, remote.transform, remote.crs) == (local.shape, local.transform, local.crs)


def test_objects_of_a_bucket_are_read_signed_and_unsigned(
    bucket, server: Server, reader: BandReader, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for name in (*KINDS, "page.tif"):
        bucket.put(f"scene/{name}", (server.folder / name).read_bytes())
    bucket.client.put_object_acl(Bucket=bucket.name, Key="scene/cog.tif", ACL="public-read")
    for name in KINDS:
        expected = whole(server.folder / name)
        again = pickle.loads(pickle.dumps(reader))  # noqa: S301 - its own
        np.testing.assert_array_equal(
            again.read(f"{bucket.url}/scene/{name}", 1, slice(0, 600), slice(0, 820)), expected
        )
        again.close()
    with pytest.raises(InvalidScene, match="not yours to read"):
        reader.header(f"{bucket.url}/scene/gone.tif")
    with pytest.raises(InvalidScene, match="not yours to read"):
        reader.header("s3://there-is-no-such-bucket/scene/gone.tif")
    with pytest.raises(InvalidScene, match="no GeoTIFF and no JPEG 2000"):
        reader.header(f"{bucket.url}/scene/page.tif")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_NO_SIGN_REQUEST", "YES")
    assert reader.header(f"{bucket.url}/scene/cog.tif").shape == (600, 820)
    assert SECRET not in caplog.text
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(ReadFailed, match="perhaps only now"):
        reader.header(f"{bucket.url}/scene/tiles.jp2")
