"""What a network is given of one tile: `TileInput` in reflectance, or `RawTile` as it was read, made into reflectance on the device.

A raw tile is a third of the bytes: numbers of 16 bits for the bands that are there, and a byte for each mask.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class TileInput:
    """What the network sees of one tile; C is the number of selected bands, T of reference dates."""

    cloudy: npt.NDArray[np.float32]
    """(C, H, W) reflectance, 0 where not valid."""
    mask: npt.NDArray[np.float32]
    """(H, W) 0..1, 1 = cloud or shadow."""
    valid: npt.NDArray[np.bool_]
    """(H, W) True = observed in every selected band."""
    references: npt.NDArray[np.float32]
    """(T, C, H, W) reflectance of the other dates, harmonised; 0 where not valid."""
    reference_valid: npt.NDArray[np.bool_]
    """(T, H, W) True = clear in the other date."""
    days: tuple[float, ...]
    """T signed distances in days, negative = before the scene."""


@dataclass(frozen=True)
class Bringing:
    """What brings reflectances x (C,) of another date to the level of the scene:

        y = gain * x + offset + clip(matrix x + shift, low, high),    x + trust * (y - x)

    The clipped part counts only in bands whose row of the matrix is not all zero.
    """

    gain: npt.NDArray[np.float32]
    """(C,)"""
    offset: npt.NDArray[np.float32]
    """(C,) reflectance."""
    matrix: npt.NDArray[np.float32]
    """(C, C), corrected bands along rows."""
    shift: npt.NDArray[np.float32]
    """(C,) reflectance."""
    low: npt.NDArray[np.float32]
    """(C,) least correction, reflectance."""
    high: npt.NDArray[np.float32]
    """(C,) greatest correction, reflectance."""
    trust: float = 1.0
    """0..1."""


@dataclass(frozen=True)
class RawTile:
    """The same tile as its files hold it, on the finest grid; what lies under False of a mask never matters."""

    cloudy: npt.NDArray[np.uint16] = field(repr=False)
    """(C, H, W) DN."""
    levels: npt.NDArray[np.float32] = field(repr=False)
    """(2, C) scale and offset: reflectance = DN * scale + offset."""
    mask: npt.NDArray[np.bool_] = field(repr=False)
    """(H, W) True = cloud or shadow."""
    valid: npt.NDArray[np.bool_] = field(repr=False)
    """(H, W) True = observed in every selected band."""
    references: npt.NDArray[np.uint16] = field(repr=False)
    """(T, C, H, W) DN of the other dates."""
    reference_levels: npt.NDArray[np.float32] = field(repr=False)
    """(T, 2, C) scale and offset of theirs."""
    bringing: tuple[Bringing, ...] = field(repr=False)
    """T, of each date."""
    reference_valid: npt.NDArray[np.bool_] = field(repr=False)
    """(T, H, W) True = clear in the other date."""
    days: tuple[float, ...]
    """T signed distances in days, negative = before the scene."""
