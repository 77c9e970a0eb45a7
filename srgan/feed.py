"""`Feed`: how tiles become a pass of a network: arrays of fixed shapes on the host, and on the device the generator's arguments.

A pass always has the same shapes: what is missing to a full batch is filled up with copies of its last tile, so that no answer depends on how
many tiles happened to be left. Raw tiles are made into reflectance on the device by the very operations, in the order, in which
`pipeline.window` and `pipeline.harmonise` do it on the host: on a CPU the bits are the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from srgan.spec import BANDS
from srgan.tile import RawTile, TileInput

Tile = TileInput | RawTile
_FIT = ("gain", "offset", "shift", "low", "high")


@dataclass(frozen=True)
class Feed:
    """The shapes of a pass. Equal feeds share buffers and a compiled network."""

    raw: bool
    batch: int
    """Tiles of a pass."""
    dates: int
    """T of a pass; a tile with fewer is filled up with dates that are nowhere valid."""
    bands: int
    """C of the tiles."""
    height: int
    width: int
    half: bool = False
    """Whether the trunk computes in bf16."""

    @classmethod
    def of(cls, tile: Tile, batch: int, dates: int | None = None, *, half: bool = False) -> Feed:
        """The feed for tiles like `tile`. dates: of a pass; as many as the tile has where None."""
        dates = len(tile.days) if dates is None else dates
        bands, height, width = tile.cloudy.shape
        return cls(isinstance(tile, RawTile), batch, dates, bands, height, width, half)

    @property
    def fields(self) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
        """Type and shape of each array of a pass."""
        n, t, c, area = self.batch, self.dates, self.bands, (self.height, self.width)
        fields: dict[str, tuple[torch.dtype, tuple[int, ...]]] = {
            "cloudy": (torch.int16 if self.raw else torch.float32, (n, c, *area)),
            "mask": (torch.uint8 if self.raw else torch.float32, (n, 1, *area)),
            "valid": (torch.uint8, (n, 1, *area)),
            "references": (torch.int16 if self.raw else torch.float32, (n, t, c, *area)),
            "reference_valid": (torch.uint8, (n, t, 1, *area)),
            "days": (torch.float32, (n, t)),
        }
        if self.raw:
            fields |= {"levels": (torch.float32, (n, 2, c)), "reference_levels": (torch.float32, (n, t, 2, c))}
            fields |= dict.fromkeys(_FIT, (torch.float32, (n, t, c)))
            fields |= {"matrix": (torch.float32, (n, t, c, c)), "trust": (torch.float32, (n, t))}
        return fields

    @property
    def nbytes(self) -> int:
        """Bytes of a pass on its way to the device."""
        return sum(int(np.prod(shape)) * kind.itemsize for kind, shape in self.fields.values())

    def fill(self, arrays: Mapping[str, np.ndarray], tiles: Sequence[Tile]) -> None:
        """Write at most `batch` tiles, at least one, into arrays of the shapes of `fields`."""
        for place in range(self.batch):
            # A copy of the last one in the places that are left over.
            tile = tiles[min(place, len(tiles) - 1)]
            given = len(tile.days)
            arrays["mask"][place, 0], arrays["valid"][place, 0] = tile.mask, tile.valid
            arrays["reference_valid"][place, :given, 0] = tile.reference_valid
            arrays["reference_valid"][place, given:] = 0
            arrays["days"][place, :given], arrays["days"][place, given:] = tile.days, 0
            if isinstance(tile, RawTile):
                # The same sixteen bits under another name: not every operator of torch knows unsigned ones.
                arrays["cloudy"][place] = tile.cloudy.view(np.int16)
                arrays["references"][place, :given] = tile.references.view(np.int16)
                arrays["levels"][place], arrays["reference_levels"][place, :given] = tile.levels, tile.reference_levels
                for date, bring in enumerate(tile.bringing):
                    for name in (*_FIT, "matrix"):
                        arrays[name][place, date] = getattr(bring, name)
                    arrays["trust"][place, date] = bring.trust
            else:
                arrays["cloudy"][place], arrays["references"][place, :given] = tile.cloudy, tile.references

    def arguments(self, given: Mapping[str, Tensor], channels: tuple[int, ...], *, whole: bool) -> list[Tensor]:
        """The generator's seven arguments, float32, on the device of `given`.

        channels: numbers of the tiles' bands. whole: all bands, absent ones zero; else only the tiles' own.
        """
        cloudy, references = given["cloudy"], given["references"]
        valid, usable = given["valid"] > 0, given["reference_valid"] > 0
        if self.raw:
            cloudy = _reflectance(cloudy, given["levels"])
            references = _brought(_reflectance(references, given["reference_levels"]), given)
            cloudy = torch.where(valid, cloudy, 0.0)
            references = torch.where(usable, references, 0.0)
        present = cloudy.new_zeros(self.batch, len(BANDS))
        for number in channels:
            present[:, number] = 1.0
        if whole and channels != tuple(range(len(BANDS))):
            cloudy, references = _placed(cloudy, channels, 1), _placed(references, channels, 2)
        flags = (given["mask"].float(), valid.float(), usable.float())
        return [cloudy, present, flags[0], flags[1], references, flags[2], given["days"]]


def _reflectance(numbers: Tensor, levels: Tensor) -> Tensor:
    """DN (..., C, H, W) as int16 of the same bits, and (..., 2, C) -> reflectance. Two roundings, as on the host."""
    values = (numbers.to(torch.int32) & 0xFFFF).to(torch.float32)
    scale, offset = levels.unbind(-2)
    return values * scale[..., None, None] + offset[..., None, None]


def _brought(other: Tensor, fit: Mapping[str, Tensor]) -> Tensor:
    """Harmonised reflectance (B, T, C, H, W); see `Bringing`."""
    gain, offset, shift, low, high = (fit[name][..., None, None] for name in _FIT)
    out = gain * other + offset
    matrix = fit["matrix"]
    added = torch.zeros_like(other)
    for band in range(other.shape[2]):
        # One band after the other: a matrix product would take the sums in another order.
        added = added + matrix[:, :, :, band, None, None] * other[:, :, band : band + 1]
    corrected = torch.clamp(added + shift, low, high)
    at_work = (matrix != 0).any(-1)[..., None, None]
    out = out + torch.where(at_work, corrected, 0.0)
    trust = fit["trust"][:, :, None, None, None]
    return torch.where(trust == 1, out, other + trust * (out - other))


def _placed(tensor: Tensor, channels: tuple[int, ...], axis: int) -> Tensor:
    shape = list(tensor.shape)
    shape[axis] = len(BANDS)
    full = tensor.new_zeros(shape)
    for place, number in enumerate(channels):
        full.select(axis, number).copy_(tensor.select(axis, place))
    return full
