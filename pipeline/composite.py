"""Composition: restored reflectance into the source's own integers, only where alpha says so.

Postconditions, for every band, mask and network output (NaN and infinities included):

    out[alpha == 0] == source[alpha == 0]                 bit for bit
    out[source == nodata] == nodata, and nodata nowhere else
    out[~isfinite(restored)] == source, and `refused` is True there
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import numpy.typing as npt


class Provenance(IntEnum):
    """Where a pixel's values come from; the classes of `provenance.tif`."""

    NODATA = 0
    """No data in any band of the source. (A band that alone has none at a pixel stays nodata there, whatever the class.)"""
    OBSERVED = 1
    """Every band exactly as in the source."""
    BLENDED = 2
    """A mixture of source and restored values: the rim of a cloud, or part of a coarser pixel that was replaced."""
    RESTORED = 3
    """Replaced, with at least one clear other date to go by."""
    GENERATED = 4
    """Replaced without any other date: made up from the surroundings."""
    REFUSED = 5
    """Cloudy, but the network's answer was unusable: every band exactly as in the source."""


def coarsen_mean(values: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_], factor: int) -> npt.NDArray[np.float32]:
    """Mean of the valid pixels of each factor x factor cell: (rows, cols) -> (rows / factor, cols / factor); 0 if none.

    >>> import numpy as np
    >>> coarsen_mean(np.float32([[1, 2], [3, 99]]), np.array([[True, True], [True, False]]), 2).tolist()
    [[2.0]]
    """
    if factor == 1:
        return values
    rows, cols = values.shape[0] // factor, values.shape[1] // factor
    shape = (rows, factor, cols, factor)
    count = valid.reshape(shape).sum(axis=(1, 3))
    total = np.where(valid, values, np.float32(0)).reshape(shape).sum(axis=(1, 3), dtype=np.float64)
    mean: npt.NDArray[np.float32] = (total / np.maximum(count, 1)).astype(np.float32)
    return mean


def coarsen_max(values: npt.NDArray, factor: int) -> npt.NDArray:
    """Largest value of each factor x factor cell; for booleans: any."""
    if factor == 1:
        return values
    rows, cols = values.shape[0] // factor, values.shape[1] // factor
    largest: npt.NDArray = values.reshape(rows, factor, cols, factor).max(axis=(1, 3))
    return largest


def refine(values: npt.NDArray, factor: int) -> npt.NDArray:
    """Each pixel repeated factor x factor times, the inverse of coarsening."""
    return values if factor == 1 else values.repeat(factor, axis=0).repeat(factor, axis=1)


def compose_band(
    source: npt.NDArray[np.uint16],
    restored: npt.NDArray[np.float32],
    alpha: npt.NDArray[np.float32],
    scale: float,
    offset: float,
    nodata: int | None,
) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.bool_]]:
    """Mix one band on its own grid.

    source: uint16 (rows, cols) DN. restored: float32 (rows, cols) reflectance. alpha: float32 (rows, cols), 0..1.
    scale, offset: reflectance = DN * scale + offset.
    Returns (out, refused): uint16 DN, and bool True where alpha > 0 but the restored value is no number.
    """
    out = source.copy()
    wanted = alpha > 0
    if nodata is not None:
        wanted &= source != nodata
    finite = np.isfinite(restored)
    refused = wanted & ~finite
    wanted &= finite
    if not wanted.any():
        return out, refused
    before = source[wanted].astype(np.float64)
    after = (restored[wanted].astype(np.float64) - offset) / scale
    mixed = np.clip(np.rint(before + alpha[wanted] * (np.clip(after, 0, 65535) - before)), 0, 65535).astype(np.uint16)
    if nodata is not None:
        # A made-up value must not read as missing: the neighbouring DN is half a thousandth of a per cent away.
        mixed[mixed == nodata] = nodata - 1 if nodata == 65535 else nodata + 1
    out[wanted] = mixed
    return out, refused
