"""How fast a cube grows and opens: products of one size on many dates, appended window by window.

    python benchmarks/cube.py --data ../shared/data --work /tmp/cube --size 10980 --dates 4 --window 1
    python benchmarks/cube.py --data ../shared/data --work /tmp/cube --size 512 --dates 200 --window 20

One product of real pixels (repeated to the size) is published, with four bands of 10 m and two of 20 m; the other dates are links to its
files. Prints the seconds and megabytes of pixels of each append, and of opening a group with plain `xr.open_zarr`, in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox

from catalogs.bands import BANDS
from catalogs.item import BandAsset, SceneItem
from pipeline.cog import CogSink
from pipeline.cube import append_products
from pipeline.layers import Layer, cloudmask_layer, confidence_layer, provenance_layer
from pipeline.preview import PREVIEW, THUMBNAIL
from pipeline.product import ModelRecord, ProductRecord
from pipeline.publish import publish
from pipeline.stac_item import build_item

SCENE = "stac/earth-search/sentinel-2-l2a/S2A_33TWL_20230818_0_L2A"
FACTORS = {"B02": 1, "B03": 1, "B04": 1, "B08": 1, "B05": 2, "B11": 2}
FIRST = datetime(2023, 1, 1, 10, tzinfo=UTC)
OPENING = """
import sys, time, xarray as xr
start = time.perf_counter()
data = xr.open_zarr(sys.argv[1], group="r10m")
opened = time.perf_counter() - start
start = time.perf_counter()
data.B04[-1, :512, :512].load()
print(f"{data.sizes['time']} times: opened in {opened:.3f} s, a window of 512 x 512 read in {time.perf_counter() - start:.3f} s")
"""


def grown(pixels: np.ndarray, size: int) -> np.ndarray:
    """`pixels` repeated to size x size, mirrored each time."""
    tile = np.block([[pixels, pixels[:, ::-1]], [pixels[::-1], pixels[::-1, ::-1]]])
    times = -(-size // min(tile.shape))
    return np.ascontiguousarray(np.tile(tile, (times, times))[:size, :size])


def first_product(data: Path, output: Path, size: int) -> Path:
    """One product of real pixels."""
    layers, pixels = [], {}
    for name, factor in FACTORS.items():
        grid = GeoBox((size // factor,) * 2, Affine(10 * factor, 0, 499980, 0, -10 * factor, 5100000), "EPSG:32633")
        with rasterio.open(data / SCENE / f"{name if factor == 1 else 'B08'}.tif") as file:
            pixels[name] = grown(file.read(1), size // factor)
        layers.append(Layer(name, BANDS[name].common_name, grid, "uint16", 0))
    fine = layers[0].geobox
    with rasterio.open(data / SCENE / "SCL.tif") as file:
        classes = grown(file.read(1), size)
    layers += [provenance_layer(fine), confidence_layer(fine), cloudmask_layer(fine)]
    pixels["provenance"] = np.where(classes >= 8, 3, 1).astype(np.uint8)
    pixels["confidence"] = np.where(classes >= 8, grown(pixels["B04"][:512, :512] % 100, size), 100).astype(np.uint8)
    pixels["cloudmask"] = np.where(classes >= 8, 3, 1).astype(np.uint8)
    build = output / ".staging" / "first"
    sink = CogSink(build, layers, threads=2)
    for layer in layers:
        sink.write(layer.name, 0, pixels[layer.name])
    sink.close()
    for picture in (PREVIEW, THUMBNAIL):
        (build / picture).touch()
    bands = {name: BandAsset(name, BANDS[name].common_name, name) for name in FACTORS}
    record = ProductRecord(
        id="S2_000", source=SceneItem("S2_000", FIRST, bands, level="L2A", stac={"properties": {}, "assets": {}}), layers=tuple(layers),
        format="cog", key="0" * 64, settings={}, model=ModelRecord("identity", "identity"), mask_method="scl", clouds={}, provenance={},
        created=FIRST,
    )  # fmt: skip
    return publish(build, output, build_item(record))


def on_another_date(first: Path, number: int) -> Path:
    """The same pixels under another id and date; links, no copies."""
    folder = first.with_name(f"S2_{number:03d}")
    shutil.copytree(first, folder, copy_function=lambda source, target: Path(target).hardlink_to(source))
    item = json.loads((folder / f"{first.name}.json").read_text())
    (folder / f"{first.name}.json").unlink()
    item["id"] = item["properties"]["declouder:source"] = folder.name
    item["properties"]["datetime"] = (FIRST + timedelta(days=number)).isoformat()
    (folder / f"{folder.name}.json").write_text(json.dumps(item))
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--size", type=int, default=10980)
    parser.add_argument("--dates", type=int, default=4)
    parser.add_argument("--window", type=int, default=1, help="dates in one append")
    arguments = parser.parse_args()
    shutil.rmtree(arguments.work, ignore_errors=True)
    first = first_product(arguments.data, arguments.work / "out", arguments.size)
    products = [first, *(on_another_date(first, number) for number in range(1, arguments.dates))]
    cube = arguments.work / "cube.zarr"
    megabytes = arguments.size**2 * (sum(2 / factor**2 for factor in FACTORS.values()) + 3) / 1e6
    for index in range(0, len(products), arguments.window):
        window = products[index : index + arguments.window]
        start, busy = time.perf_counter(), time.process_time()
        append_products(cube, window)
        seconds = time.perf_counter() - start
        print(
            f"{len(window)} appended to {index}: {seconds:.2f} s ({time.process_time() - busy:.2f} s of CPU), "
            f"{megabytes * len(window) / seconds:.0f} MB/s"
        )
    start = time.perf_counter()
    append_products(cube, products[-arguments.window :])
    print(f"appended again: {time.perf_counter() - start:.2f} s")
    files = [path.stat().st_size for path in cube.rglob("*") if path.is_file()]
    print(f"{len(files)} files, {sum(files) / 1e6:.0f} MB of {megabytes * len(products):.0f} MB of pixels")
    subprocess.run([sys.executable, "-c", OPENING, str(cube)], check=True)


if __name__ == "__main__":
    main()
