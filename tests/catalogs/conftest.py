"""Small rasters, items, catalogues and servers for the tests of `catalogs`."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine

from catalogs.patience import Patience


def make_raster(
    path: Path,
    count: int = 1,
    shape: tuple[int, int] = (12, 8),
    descriptions: tuple[str, ...] = (),
    crs: str | None = "EPSG:32633",
    origin: tuple[float, float] = (500_000.0, 5_100_000.0),
    pixel: float = 10.0,
    driver: str = "GTiff",
    dtype: str = "uint16",
    scale_offset: tuple[float, float] | None = None,
    tags: dict[str, str] | None = None,
    **options: Any,
) -> Path:
    """A tiny raster of zeros."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows, cols = shape
    transform = Affine(pixel, 0, origin[0], 0, -pixel, origin[1])
    with rasterio.open(
        path,
        "w",
        driver=driver,
        width=cols,
        height=rows,
        count=count,
        dtype=dtype,
        crs=crs,
        transform=transform,
        **options,
    ) as file:
        file.write(np.zeros((count, rows, cols), dtype))
        for index, text in enumerate(descriptions, 1):
            file.set_band_description(index, text)
        if scale_offset:
            file.scales, file.offsets = [scale_offset[0]] * count, [scale_offset[1]] * count
        if tags:
            file.update_tags(**tags)
    return path


def make_item(
    identifier: str = "S2B_33TWL_20230810_0_L2A", assets: dict[str, Any] | None = None, **changes: Any
) -> dict[str, Any]:
    """A valid STAC item of the test tile; `changes` replace its members, a dictionary `properties` is merged."""
    properties = {
        "datetime": "2023-08-10T09:58:11.590000Z",
        "s2:processing_baseline": "05.09",
        "s2:datatake_id": "GS2B_20230810T094549_033567_N05.09",
        "grid:code": "MGRS-33TWL",
    }
    item = {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": identifier,
        "geometry": {"type": "Polygon", "coordinates": [[[15, 45], [16, 45], [16, 46], [15, 46], [15, 45]]]},
        "bbox": [15, 45, 16, 46],
        "properties": properties | changes.pop("properties", {}),
        "links": [],
        "assets": assets if assets is not None else {"B02": {"href": "https://example.com/B02.tif"}},
    }
    if "collection" in changes:
        item["links"] = [{"rel": "collection", "href": "../collection.json"}]
    return item | changes


def write_json(path: Path, document: object) -> Path:
    """`document` written to `path`, folders made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))
    return path


def make_catalog(folder: Path, items: list[dict[str, Any]], extra_links: list[dict[str, str]] | None = None) -> Path:
    """A static catalogue with one collection; returns the path of its entry document."""
    links = [{"rel": "item", "href": f"./{number}/item.json"} for number, _ in enumerate(items)]
    for number, item in enumerate(items):
        write_json(folder / "c" / str(number) / "item.json", item)
    collection = {
        "type": "Collection", "id": "c", "stac_version": "1.0.0", "description": "x", "license": "other",
        "extent": {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [[None, None]]}},
        "links": links + (extra_links or []),
    }  # fmt: skip
    write_json(folder / "c" / "collection.json", collection)
    entry = {"type": "Catalog", "id": "k", "stac_version": "1.0.0", "description": "x"}
    return write_json(folder / "catalog.json", entry | {"links": [{"rel": "child", "href": "c/collection.json"}]})


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@contextmanager
def serving(handler: Callable[..., Any]) -> Iterator[str]:
    """URL of a real HTTP server that answers with `handler`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def serve_folder() -> Iterator[Callable[[Path], str]]:
    """Function: the URL under which a folder is served over HTTP."""
    from contextlib import ExitStack

    with ExitStack() as stack:
        yield lambda folder: stack.enter_context(serving(partial(_Quiet, directory=str(folder))))


@pytest.fixture
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries without long waits."""
    monkeypatch.setattr("catalogs.connection.PATIENCE", Patience(first_wait=0.01, seed="test"))


@pytest.fixture(scope="session")
def rustac(shared_data: Path) -> Iterator[str]:
    """URL of a server of rustac, a STAC API in memory, that holds the five items of the test catalogue."""
    program = shutil.which("rustac", path=str(Path(sys.executable).parent)) or shutil.which("rustac")
    if program is None:
        pytest.skip("rustac is not installed: pip install rustac")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    items = sorted((shared_data / "stac" / "earth-search" / "sentinel-2-l2a").glob("*/*.json"))
    command = [program, "serve", "--create-collections", "--addr", address, *map(str, items)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        for _ in range(200):
            try:
                urllib.request.urlopen(f"http://{address}/", timeout=5).close()
                break
            except OSError:
                assert server.poll() is None, "rustac ended"
                time.sleep(0.05)
        yield f"http://{address}/"
    finally:
        server.terminate()
        server.wait(10)
