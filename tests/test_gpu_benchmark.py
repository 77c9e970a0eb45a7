"""benchmarks/gpu.py where there is no GPU: the same code paths, on a machine that has torch and nothing that reads pixels."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
BARE = """
import runpy, sys
for name in ("rasterio", "xarray", "dask", "zarr", "shapely", "geopandas", "pystac", "odc", "scipy", "pyproj", "affine", "typer", "prefect"):
    sys.modules[name] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_it_runs_with_torch_alone_and_its_answers_are_the_cpus(tmp_path: Path) -> None:
    asked = "--device cpu --presets default --tile 64 --dates 1 --batches 1 --passes 2 --peak-size 64"
    command = [
        sys.executable,
        "-c",
        BARE,
        str(ROOT / "benchmarks/gpu.py"),
        *asked.split(),
        "--trace",
        str(tmp_path / "trace.json"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in done.stdout.splitlines()
        if line.startswith("| default")
    ]
    speeds, distances = [row for row in rows if len(row) == 9], [row for row in rows if len(row) == 5]
    assert [row[3:5] for row in speeds] == [["fp32", "1"], ["bf16", "1"]]
    assert all(float(row[5]) > 0 and float(row[6]) > 0 for row in speeds)
    assert distances[0][1:] == ["fp32", "0", "100.0000%", "100.0000%"]
    assert float(distances[1][2]) > 0
    assert json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert "nothing ran on a GPU" in done.stdout


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT))
    return importlib.import_module("benchmarks.gpu")


def test_only_what_is_composed_counts(gpu: ModuleType) -> None:
    tiles = gpu.made_tiles(4, 4, 1, 64)
    answers = [np.full((6, 64, 64), 0.1, np.float32) for _ in tiles]
    others = [answer.copy() for answer in answers]
    composed = 0
    for tile, other in zip(tiles, others, strict=True):
        other[:, ~tile.mask] += 0.5
        other[4:] += 0.5
        composed += 4 * int(tile.mask.sum())
    apart = gpu.distances(tiles, answers, others)
    assert (apart.shape, apart.max()) == ((composed,), 0)
    assert 0 < composed < 4 * 4 * 64 * 64
    row, col = np.argwhere(tiles[0].mask)[0]
    others[0][2, row, col] += 0.0003
    assert sorted(gpu.distances(tiles, answers, others))[-2:] == [0, 3]


def test_shared_time_is_counted_once(gpu: ModuleType) -> None:
    covered, made_tiles = gpu.covered, gpu.made_tiles
    assert covered([(0, 10)], [(0, 4), (2, 5), (9, 20)]) == 0.6
    assert covered([(0, 2), (4, 6)], []) == 0
    tile = made_tiles(1, 12, 0, 64)[0]
    assert (tile.cloudy.shape, tile.references.shape, tile.cloudy.dtype) == ((12, 64, 64), (0, 12, 64, 64), np.uint16)
