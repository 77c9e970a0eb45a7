"""In-memory stand-ins for files and networks, for property tests that would drown in I/O otherwise."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

from pipeline.block import SceneJob
from pipeline.inference import Restorer, TileInput
from pipeline.scene import SceneBand
from pipeline.tiling import plan_tiles


@dataclass
class ArrayScene:
    """A scene whose bands are arrays: name -> (factor, uint16 (rows, cols), nodata)."""

    arrays: dict[str, tuple[int, np.ndarray, int | None]]
    id: str = "made"
    offset: float = 0.0

    @property
    def bands(self) -> tuple[SceneBand, ...]:
        return tuple(
            SceneBand(
                name=name, key=name, href=f"fake://{name}", index=1, factor=factor, dtype="uint16", nodata=nodata,
                scale=1e-4, offset=self.offset,
                geobox=GeoBox(pixels.shape, Affine(10.0 * factor, 0, 499980, 0, -10.0 * factor, 5100000), "EPSG:32633"),
            )
            for name, (factor, pixels, nodata) in self.arrays.items()
        )  # fmt: skip

    @property
    def shape(self) -> tuple[int, int]:
        factor, pixels, _ = next(iter(self.arrays.values()))
        return pixels.shape[0] * factor, pixels.shape[1] * factor

    def band(self, name: str) -> SceneBand:
        return next(band for band in self.bands if band.name == name)

    def read(self, name: str, rows: slice, cols: slice) -> np.ndarray:
        pixels = self.arrays[name][1]
        assert 0 <= rows.start < rows.stop <= pixels.shape[0]
        assert 0 <= cols.start < cols.stop <= pixels.shape[1]
        return pixels[rows, cols].copy()


@dataclass
class ArrayReference:
    """Another date of an `ArrayScene`."""

    scene: ArrayScene
    clear: np.ndarray
    days: float = 5.0
    gain: dict[str, float] = field(default_factory=dict)
    offset: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for band in self.scene.bands:
            self.gain.setdefault(band.name, 1.0)
            self.offset.setdefault(band.name, 0.0)

    def valid(self, rows: slice, cols: slice) -> np.ndarray:
        return self.clear[rows, cols]

    def harmonise(self, other: np.ndarray) -> np.ndarray:
        lines = [(self.gain[band.name], self.offset[band.name]) for band in self.scene.bands]
        return np.stack([np.float32(g) * x + np.float32(o) for (g, o), x in zip(lines, other, strict=True)])


@dataclass
class Smoother:
    """A network of sorts: every output pixel depends on the whole tile, on all its inputs and on nothing else."""

    name: str = "smoother"
    digest: str = "smoother"
    margin: int = 8
    grid: int = 1
    groups: tuple[str, ...] = ()
    """Band groups whose error it claims to know; that too depends on the whole tile."""
    poison: float | None = None
    """Put into one pixel of every tile whose mean falls in the upper half."""
    calls: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def restore(self, tiles: Iterable[TileInput]) -> Iterator[np.ndarray]:
        for tile in tiles:
            with self.lock:
                self.calls += 1
            out = np.cumsum(np.cumsum(tile.cloudy, axis=1), axis=2) * np.float32(1e-3)
            out += tile.cloudy.mean() * tile.mask + tile.references.sum(axis=0) * np.float32(0.1)
            out = np.clip(out, 0, 1.5).astype(np.float32)
            if self.poison is not None and int(tile.cloudy.sum() * 997) % 2:
                out[:, 3, 4] = self.poison
            yield np.concatenate([out, self.errors(tile)])

    def errors(self, tile: TileInput) -> np.ndarray:
        """(groups, H, W) float32, 0.001 to 0.3 reflectance."""
        sums = np.cumsum(tile.cloudy[0][::-1, ::-1], axis=0) * np.float32(3.7)
        errors = np.zeros((len(self.groups), *tile.mask.shape), np.float32)
        for i in range(len(self.groups)):
            errors[i] = 0.001 + 0.3 * (sums * (i + 1) % 1) ** 3
        return errors

    def close(self) -> None:
        """Nothing to free."""


_conforms: type[Restorer] = Smoother


def made_job(seed: int, rows: int, cols: int, *, tile: int = 16, overlap: int = 4, feather: int = 2) -> SceneJob:
    """A scene of 10, 20 and 60 m bands with clouds, nodata and one reference; rows and cols are multiples of 6."""
    rng = np.random.default_rng(seed)

    def pixels(factor: int) -> np.ndarray:
        values = rng.integers(1, 12000, (rows // factor, cols // factor)).astype(np.uint16)
        values[rng.random(values.shape) < 0.01] = 0
        return values

    def scene() -> ArrayScene:
        return ArrayScene({"B02": (1, pixels(1), 0), "B05": (2, pixels(2), 0), "B09": (6, pixels(6), 0)})

    coarse = rng.random((rows // 6, cols // 6)) < 0.25
    target = np.kron(coarse, np.ones((6, 6), bool)) ^ (rng.random((rows, cols)) < 0.01)
    classes = np.where(target, np.uint8(3), np.uint8(1))
    classes[: rows // 5, : cols // 7] = 0
    target &= classes != 0
    reference = ArrayReference(scene(), rng.random((rows, cols)) < 0.7, gain={"B02": 1.1}, offset={"B05": 0.01})
    plan = plan_tiles(target, tile, overlap, 6)
    return SceneJob(scene(), target, classes, (reference,), plan, feather)
