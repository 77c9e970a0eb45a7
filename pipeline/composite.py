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

_PIXELS = 1 << 15
"""Pixels composed at a time: what they need stays in the processor's cache."""


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
    if valid.all():
        return (_cell_sums(values, factor, np.float64) / factor**2).astype(np.float32)
    total = _cell_sums(np.where(valid, values, np.float32(0)), factor, np.float64)
    mean: npt.NDArray[np.float32] = (total / np.maximum(_cell_sums(valid, factor, np.int32), 1)).astype(np.float32)
    return mean


def _cell_sums(values: npt.NDArray, factor: int, dtype: npt.DTypeLike) -> npt.NDArray:
    """Sum of each cell: whole rows are added, then whole columns, which is ten times as fast as a reduction over short axes.

    In double precision the sum of a cell's float32 reflectances is exact, so the order does not matter.
    """
    down = values[::factor].astype(dtype)
    for i in range(1, factor):
        down += values[i::factor]
    across = down[:, ::factor].copy()
    for j in range(1, factor):
        across += down[:, j::factor]
    return across


def coarsen_max(values: npt.NDArray, factor: int) -> npt.NDArray:
    """Largest value of each factor x factor cell; for booleans: any."""
    if factor == 1:
        return values
    down = np.maximum.reduce([values[i::factor] for i in range(factor)])
    largest: npt.NDArray = np.maximum.reduce([down[:, j::factor] for j in range(factor)])
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
    out, refused = source.copy(), np.zeros(source.shape, np.bool_)
    step = max(1, _PIXELS // max(source.shape[1], 1))
    for start in range(0, source.shape[0], step):
        rows = slice(start, start + step)
        _compose_rows(
            source[rows], restored[rows], alpha[rows], scale, offset, nodata, out=out[rows], refused=refused[rows]
        )
    return out, refused


def _compose_rows(
    source: npt.NDArray[np.uint16],
    restored: npt.NDArray[np.float32],
    alpha: npt.NDArray[np.float32],
    scale: float,
    offset: float,
    nodata: int | None,
    *,
    out: npt.NDArray[np.uint16],
    refused: npt.NDArray[np.bool_],
) -> None:
    """`compose_band` of a few rows, into `out`, which holds the source already, and `refused`, which is all False."""
    wanted = alpha > 0
    if not wanted.any():
        return
    if nodata is not None:
        wanted &= source != nodata
    # A sum holds every NaN and infinity, and is had in one pass.
    with np.errstate(over="ignore", invalid="ignore"):
        finite = bool(np.isfinite(restored.sum()))
    if not finite:
        number = np.isfinite(restored)
        np.logical_and(wanted, ~number, out=refused)
        wanted &= number
    count = np.count_nonzero(wanted)
    if count == 0:
        return
    # Picking pixels out costs more than to compute the rest along with them, where that are not many.
    dense = finite and 3 * count > wanted.size
    picked = ... if dense else wanted
    mixed = _mixed(source[picked], restored[picked], alpha[picked], scale, offset)
    if nodata is not None and (missing := mixed == nodata).any():
        # A made-up value must not read as missing: the neighbouring DN is half a thousandth of a per cent away.
        mixed[missing] = nodata - 1 if nodata == 65535 else nodata + 1
    if dense:
        np.copyto(out, mixed, where=wanted)
    else:
        out[wanted] = mixed


def _mixed(
    source: npt.NDArray[np.uint16],
    restored: npt.NDArray[np.float32],
    alpha: npt.NDArray[np.float32],
    scale: float,
    offset: float,
) -> npt.NDArray[np.uint16]:
    """Source and restored values mixed by alpha, DN; in double precision, in place, since memory is what takes the time."""
    after = restored.astype(np.float64)
    if offset:
        after -= offset
    after /= scale
    np.clip(after, 0.0, 65535.0, out=after)
    # Where nothing of the source is left it is not looked at, in any company: neighbours must not decide how a pixel is rounded.
    rim = alpha < 1
    if rim.any():
        before = source.astype(np.float64)
        mixed = after - before
        mixed *= alpha
        mixed += before
        np.copyto(after, mixed, where=rim)
    np.rint(after, out=after)
    return after.astype(np.uint16)
