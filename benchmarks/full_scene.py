"""Peak memory and time of `decloud run` on a full Sentinel-2 tile: 10980 x 10980, 4 bands, made by repeating real data.

    python benchmarks/full_scene.py --data ../shared/data --work /tmp/full --max-memory 1.5GiB [--checkpoint identity]

Writes the scene once (tiled GeoTIFFs and a STAC item), runs the command line in a process of its own, and prints the peak
resident memory of that process as the kernel counts it (ru_maxrss) beside the limit that was asked for.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import from_origin
from rasterio.windows import Window

from pipeline.settings import parse_bytes

ITEM = "stac/earth-search/sentinel-2-l2a/S2A_33TWL_20230818_0_L2A"
BANDS = ("B02", "B03", "B04", "B08")


def repeated(source: Path, target: Path, size: int, resolution: float) -> None:
    """Write `source` repeated to size x size pixels, mirrored at each repetition so that no artificial edge appears."""
    with rasterio.open(source) as file:
        pixels = file.read(1)
        profile = {"dtype": file.dtypes[0], "nodata": file.nodata, "crs": file.crs}
    rows = cols = pixels.shape[0]
    with rasterio.open(
        target, "w", driver="GTiff", width=size, height=size, count=1, tiled=True, blockxsize=512, blockysize=512,
        compress="zstd", zstd_level=1, transform=from_origin(499980, 5100000, resolution, resolution), **profile,
    ) as out:  # fmt: skip
        wide = np.concatenate([pixels if i % 2 == 0 else pixels[:, ::-1] for i in range(-(-size // cols))], axis=1)
        wide = wide[:, :size]
        for i, row in enumerate(range(0, size, rows)):
            strip = wide if i % 2 == 0 else wide[::-1]
            strip = strip[: min(rows, size - row)]
            out.write(strip, 1, window=Window(0, row, size, strip.shape[0]))


def make_scene(data: Path, folder: Path, size: int) -> Path:
    """The scene's STAC item; made once."""
    item_path = folder / "scene.json"
    if item_path.exists():
        return item_path
    folder.mkdir(parents=True, exist_ok=True)
    item = json.loads(next((data / ITEM).glob("*_L2A.json")).read_text())
    for name in BANDS:
        repeated(data / ITEM / f"{name}.tif", folder / f"{name}.tif", size, 10)
    repeated(data / ITEM / "SCL.tif", folder / "SCL.tif", size // 2, 20)
    item["assets"] = {
        key: asset for key, asset in item["assets"].items() if key in ("blue", "green", "red", "nir", "scl")
    }
    item["links"] = []
    item_path.write_text(json.dumps(item))
    return item_path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--size", type=int, default=10980)
    parser.add_argument("--max-memory", default="1.5GiB")
    parser.add_argument("--checkpoint", default="identity")
    parser.add_argument("--format", default="cog")
    arguments = parser.parse_args()
    item = make_scene(arguments.data, arguments.work / f"scene_{arguments.size}", arguments.size)
    command = [
        str(Path(sys.executable).parent / "decloud"), "run", str(item), "--output", str(arguments.work / "out"),
        "--checkpoint", arguments.checkpoint, "--max-memory", arguments.max_memory, "--references", "0",
        "--max-generated", "1", "--format", arguments.format, "--overwrite",
    ]  # fmt: skip
    start = time.perf_counter()
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    limit = parse_bytes(arguments.max_memory)
    print(
        f"exit {os.waitstatus_to_exitcode(status)}  wall {seconds:.1f} s  peak RSS {usage.ru_maxrss / 2**20:.2f} GiB  "
        f"--max-memory {limit / 2**30:.2f} GiB  user {usage.ru_utime:.1f} s  system {usage.ru_stime:.1f} s"
    )


if __name__ == "__main__":
    main()
