"""Small scenes for the tests of `benchmarks.bench`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch

ROOT = Path(__file__).resolve().parents[2]
# Benchmarks are no part of what is installed; they are run from the repository's root.
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))

from benchmarks.bench.images import Images  # noqa: E402
from benchmarks.bench.scenes import TWELVE, MadeScene, make_scene  # noqa: E402
from catalogs.bands import BANDS  # noqa: E402

EDGE = 60
"""Of the made image, pixels of 10 m."""


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    """An image of twelve bands whose every pixel tells its band, row and column."""
    folder = tmp_path_factory.mktemp("images")
    for number, name in enumerate(TWELVE, 1):
        side = EDGE * 10 // BANDS[name].gsd
        rows, cols = np.indices((side, side))
        with rasterio.open(
            folder / f"{name}.tif", "w", driver="GTiff", width=side, height=side, count=1, dtype="uint16",
            transform=rasterio.Affine(BANDS[name].gsd, 0, 0, 0, -BANDS[name].gsd, 0), crs="EPSG:32633",
        ) as file:  # fmt: skip
            file.write((number * 4000 + rows * 61 + cols).astype(np.uint16), 1)
    return Images(folder, real=False)


@pytest.fixture(scope="session")
def scene(images: Images, tmp_path_factory: pytest.TempPathFactory) -> MadeScene:
    """600 x 600 pixels, four bands."""
    return make_scene(images, tmp_path_factory.mktemp("scene"), 600)


@pytest.fixture
def torch_threads() -> Iterator[None]:
    """torch's threads are put back, which contenders set."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
