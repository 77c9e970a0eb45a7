"""`ViewLayers`: the rasters of a product, thinned to the size of a picture; COG and Zarr, in a folder or (COG) in a bucket."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.address import address
from pipeline.errors import InvalidScene, ReadFailed
from pipeline.productview import ProductView
from pipeline.reader import BandReader

LONGEST = 1024
"""Pixels of the longer side of a picture, as in the product's preview."""
_LONGEST_REASON = 300


@dataclass
class ViewLayers:
    """Thinned layers of one product, all on one grid. Close it, or use it as a context manager."""

    view: ProductView
    longest: int = LONGEST

    def __post_init__(self) -> None:
        self._reader = BandReader()

    @property
    def shape(self) -> tuple[int, int] | None:
        """(rows, columns) of everything that is read; None where the item does not say how large the work grid is."""
        if self.view.shape is None:
            return None
        factor = -(-max(self.view.shape) // self.longest)
        rows, cols = (-(-size // factor) for size in self.view.shape)
        return rows, cols

    def read(self, name: str) -> NDArray[Any]:
        """The layer `name` (rows, columns), in its own type; classes stay classes.

        Raises InvalidScene for a layer that is not there, or is damaged; ReadFailed where its file may be back later.
        """
        if name not in self.view.rasters or self.shape is None:
            raise InvalidScene(f"{self.view.id}: has no {name}")
        path = self.view.folder / self.view.rasters[name]
        if not self.view.rasters[name].endswith(".tif"):
            return _fitted(self._zarr(name), self.shape)
        href = address(path)
        try:
            size = self._reader.header(href).shape
            return _fitted(self._reader.read_decimated(href, 1, self._step(size)), self.shape)
        except InvalidScene as error:
            why = "missing, damaged or not yours to read" if self.view.in_bucket else "missing or damaged"
            raise InvalidScene(f"{self.view.id}: {path.name} is {why}") from error

    def _zarr(self, name: str) -> NDArray[Any]:
        import zarr

        if self.view.out_of_reach:
            raise InvalidScene(f"{self.view.id}: {name} is in a Zarr store of a bucket, which this page does not read")
        path = self.view.folder / self.view.rasters[name]
        try:
            array = zarr.open_array(path, mode="r")
            step = self._step(array.shape)
            return np.asarray(array[::step, ::step])
        except FileNotFoundError as error:
            raise InvalidScene(f"{self.view.id}: {name} is missing") from error
        except (OSError, ValueError, RuntimeError, KeyError, TypeError, IndexError) as error:
            raise ReadFailed(f"{self.view.id}: {name} cannot be read: {_short(error)}") from error

    def _step(self, size: tuple[int, ...]) -> int:
        assert self.shape is not None  # noqa: S101 - `read` has looked
        return max(1, round(max(size) / max(self.shape)))

    def close(self) -> None:
        """Close its files."""
        self._reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _fitted(pixels: NDArray[Any], shape: tuple[int, int]) -> NDArray[Any]:
    """`pixels` on a grid of `shape`, by the nearest pixel: a coarser band is repeated, a pixel too many is dropped."""
    if pixels.ndim != 2 or min(pixels.shape) < 1:
        raise InvalidScene(f"an array of shape {pixels.shape} is no layer")
    if pixels.shape == shape:
        return pixels
    rows, cols = (
        np.minimum((np.arange(wanted) + 0.5) * found / wanted, found - 1).astype(np.intp)
        for wanted, found in zip(shape, pixels.shape, strict=True)
    )
    fitted: NDArray[Any] = pixels[rows[:, None], cols]
    return fitted


def _short(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= _LONGEST_REASON else f"{text[:_LONGEST_REASON]} ..."
