"""Seeded random fields with a power-law spectrum: the raw material of simulated ground and simulated cloud."""

from __future__ import annotations

import numpy as np

from pipeline.errors import InvalidSettings


def fractal(
    rng: np.random.Generator,
    shape: tuple[int, int],
    slope: float,
    outer: float,
    stretch: tuple[float, float] = (1.0, 1.0),
) -> np.ndarray:
    """A field (rows, cols) float32 with mean 0 and standard deviation 1.

    Its amplitude spectrum falls as `k ** -slope` below the size `outer` (pixels) and is flat above it, so `outer` is the
    size of the largest features and a larger `slope` makes a smoother field. `stretch` lengthens the features along
    rows and columns. The field may repeat at its borders.

    Raises InvalidSettings for an empty shape or an `outer` that is not positive.
    """
    import scipy.fft

    if min(shape) < 1 or not outer > 0:
        raise InvalidSettings(f"noise of shape {shape} and outer size {outer}: both must be positive")
    fast = (scipy.fft.next_fast_len(shape[0]), scipy.fft.next_fast_len(shape[1], real=True))
    spectrum = scipy.fft.rfft2(rng.standard_normal(fast, dtype=np.float32))
    rows = scipy.fft.fftfreq(fast[0]).astype(np.float32)[:, None] * np.float32(stretch[0])
    cols = scipy.fft.rfftfreq(fast[1]).astype(np.float32)[None, :] * np.float32(stretch[1])
    spectrum *= (rows**2 + cols**2 + np.float32(outer) ** -2) ** np.float32(-slope / 2)
    field: np.ndarray = scipy.fft.irfft2(spectrum, s=fast, overwrite_x=True)[: shape[0], : shape[1]]
    field = field - field.mean()
    deviation = field.std()
    return field / deviation if deviation > 0 else field


def smoothstep(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """0 below `low`, 1 above `high`, a cubic with level ends between; float32, shape of `values`.

    >>> smoothstep(np.array([-1.0, 0.5, 2.0]), 0.0, 1.0).tolist()
    [0.0, 0.5, 1.0]
    """
    ramp = np.clip((values - low) / (high - low), 0, 1).astype(np.float32)
    smooth: np.ndarray = ramp * ramp * (3 - 2 * ramp)
    return smooth
