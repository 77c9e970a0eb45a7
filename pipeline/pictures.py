"""`picture_set`: what a reader of the report sees of one case: input, prediction, truth, error, structure, opacity, confidence.

Input, prediction and truth share one stretch, which the truth decides: a prediction that is too bright looks too bright. Error and
expected error share one colour map and one scale, so that the two can be compared by eye, and from image to image.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InvalidSettings
from srgan.spec import BANDS, GROUPS

PICTURES = ("input", "prediction", "truth", "error", "structure", "opacity", "confidence")
"""Names of the pictures, in the order in which they are shown."""
ERROR_FULL = 0.1
"""Absolute error that gets the brightest colour, reflectance; larger ones look the same."""
LEAST_SPAN = 0.06
"""Reflectance from black to white at least: over water and flat ground a narrower stretch turns a small error white, and noise into a picture."""
UNKNOWN = 128
"""Grey level of pixels whose error nobody knows."""
QUALITY = 85
"""Of WebP, 0..100: the pictures are to look at, the numbers come from the arrays."""
_TRUE_COLOUR = ("B04", "B03", "B02")
_GAMMA = 1.3  # as in the product's preview
# Magma (Smith and van der Walt, CC0), every sixteenth colour: its lightness grows evenly, with any kind of colour vision.
_MAGMA = "000004 0a0822 1d1147 36106b 51127c 6a1c81 832681 9c2e7f b73779 d0416f e75263 f56b5c fc8961 fea772 fec488 fde2a3 fcfdbf"
COLOURS = np.array([[int(part[i : i + 2], 16) for i in (0, 2, 4)] for part in _MAGMA.split()], np.float64)
"""The map of the errors (17, 3): red, green, blue 0..255 at even steps from no error to `ERROR_FULL`."""

Picture = NDArray[np.uint8]


class ShownProblem(Protocol):
    """What the method was given; `pipeline.baselines.Problem` is one."""

    @property
    def image(self) -> NDArray[np.float32]:
        """(C, H, W) reflectance."""

    @property
    def valid(self) -> NDArray[np.bool_]:
        """(H, W), True = the input holds data."""

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the C bands."""


class ShownCase(Protocol):
    """A case with its truth; `pipeline.cases.Case` is one."""

    @property
    def problem(self) -> ShownProblem:
        """The input."""

    @property
    def target(self) -> NDArray[np.float32]:
        """(C, H, W) reflectance."""

    @property
    def known(self) -> NDArray[np.bool_]:
        """(H, W), True = the truth is known."""


class ShownOutput(Protocol):
    """What the model said of it. None where there is nothing to show."""

    @property
    def restored(self) -> NDArray[np.float32]:
        """(C, H, W) reflectance, as a product would hold it."""

    @property
    def structure(self) -> NDArray[np.float32] | None:
        """(4, H, W) edge-preserving smoothing of the band groups, reflectance."""

    @property
    def opacity(self) -> NDArray[np.float32] | None:
        """(H, W) share of the result that is not the input, 0..1."""

    @property
    def uncertainty(self) -> NDArray[np.float32] | None:
        """(4, H, W) expected absolute error of the band groups, reflectance."""


def picture_set(case: ShownCase, output: ShownOutput) -> dict[str, Picture]:
    """The pictures of a case by name, in the order of `PICTURES`: uint8 (H, W, 3), opacity (H, W).

    Raises InvalidSettings where the arrays do not have one grid and one list of bands.
    """
    problem = case.problem
    _check(case, output)
    known = case.known & _finite(case.target)
    low, high = stretch(case.target if known.any() else problem.image, problem.bands, known if known.any() else None)
    pictures = {
        "input": true_colour(problem.image, problem.bands, low, high, problem.valid),
        "prediction": true_colour(output.restored, problem.bands, low, high, problem.valid),
        "truth": true_colour(case.target, problem.bands, low, high),
        "error": error_map(_errors(output.restored, case.target), known),
    }
    if output.structure is not None:
        pictures["structure"] = structure_map(output.structure, problem.bands)
    if output.opacity is not None:
        pictures["opacity"] = grey(output.opacity)
    if output.uncertainty is not None:
        there = [bool(set(members) & set(problem.bands)) for members in GROUPS.values()]
        expected = output.uncertainty[there].mean(0) if any(there) else output.uncertainty.mean(0)
        pictures["confidence"] = error_map(expected, problem.valid)
    return pictures


def stretch(
    image: NDArray[np.float32], bands: Sequence[str], where: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Reflectance (3, 1, 1) that become black and white in red, green and blue, from the pixels `where`.

    Each channel has its own black, which takes off the blue veil of L1C; the span is one for all, so that colours stay true.
    """
    pixels = image[_channels(bands)]
    there = _finite(pixels)
    used = pixels[:, there if where is None else there & where]
    if used.shape[1] == 0:
        return np.zeros((3, 1, 1), np.float32), np.ones((3, 1, 1), np.float32)
    low = np.percentile(used, 0.5, axis=1).astype(np.float32)[:, None, None]
    span = max(float(np.percentile(used - low[:, 0], 99.5)), LEAST_SPAN)
    return low, low + np.float32(span)


def true_colour(
    image: NDArray[np.float32],
    bands: Sequence[str],
    low: NDArray[np.float32],
    high: NDArray[np.float32],
    valid: NDArray[np.bool_] | None = None,
) -> Picture:
    """B04, B03, B02 of `image` (C, H, W) as (H, W, 3), `low` black and `high` white; black where not `valid` or not finite.

    Of an image that lacks one of the three its longest, middle and shortest band are shown.
    """
    chosen = image[_channels(bands)]
    finite = _finite(chosen)
    scaled = np.clip((np.where(finite, chosen, low) - low) / (high - low), 0, 1) ** (1 / _GAMMA)
    shown = finite if valid is None else finite & valid
    return np.where(shown[..., None], np.rint(scaled * 255).transpose(1, 2, 0), 0).astype(np.uint8)


def error_map(error: NDArray[np.floating], known: NDArray[np.bool_]) -> Picture:
    """(H, W) absolute error in reflectance as (H, W, 3): black none, bright `ERROR_FULL` or more, grey where not `known` or not finite."""
    there = known & np.isfinite(error)
    steps = np.linspace(0, ERROR_FULL, len(COLOURS))
    values = np.where(there, error, 0.0)
    pixels = np.stack([np.interp(values, steps, COLOURS[:, channel]) for channel in range(3)], -1)
    return np.where(there[..., None], np.rint(pixels), UNKNOWN).astype(np.uint8)


def structure_map(structure: NDArray[np.floating], bands: Sequence[str]) -> Picture:
    """(4, H, W) in the order of `srgan.spec.GROUPS` as (H, W, 3): SWIR, NIR and VIS as red, green and blue.

    A group without a band in `bands` leaves its place to the next shorter one that has, so that an image of visible bands is grey.
    """
    names = list(GROUPS)
    there = [index for index, name in enumerate(names) if set(GROUPS[name]) & set(bands)] or [0]
    chosen = [max((i for i in there if i <= names.index(name)), default=there[0]) for name in ("SWIR", "NIR", "VIS")]
    planes = np.nan_to_num(structure[chosen].astype(np.float32))
    low, high = np.percentile(planes, (0.5, 99.5), axis=(1, 2))
    # Each group by itself: near infrared over plants is ten times the visible light.
    scaled = (planes - low[:, None, None]) / np.maximum(high - low, 0.01)[:, None, None]
    return _bytes(scaled).transpose(1, 2, 0)


def grey(share: NDArray[np.floating]) -> Picture:
    """(H, W) of 0..1 as (H, W) of 0..255; what is not finite is black."""
    return _bytes(np.nan_to_num(share, posinf=0, neginf=0))


def encode(picture: Picture, longest: int = 1024) -> bytes:
    """A picture (H, W) or (H, W, 3) as WebP, its longer side at most `longest` pixels. The same bytes for the same picture."""
    from PIL import Image

    image = Image.fromarray(picture).convert("RGB")
    if max(image.size) > longest:
        share = longest / max(image.size)
        size = (max(1, round(image.width * share)), max(1, round(image.height * share)))
        image = image.resize(size, Image.Resampling.BOX)
    target = BytesIO()
    image.save(target, "WEBP", quality=QUALITY, method=4)
    return target.getvalue()


def _bytes(values: NDArray[np.floating]) -> Picture:
    """0..1 as 0..255, what lies outside as the nearer end."""
    scaled: Picture = np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
    return scaled


def _finite(image: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(H, W), True where every band is finite."""
    there: NDArray[np.bool_] = np.all(np.isfinite(image), axis=0)
    return there


def _errors(prediction: NDArray[np.float32], target: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean over the bands of the absolute error (H, W), both clipped to 0..1 as the metrics do."""
    error: NDArray[np.float32] = np.abs(np.clip(prediction, 0, 1) - np.clip(target, 0, 1)).mean(0)
    return error


def _channels(bands: Sequence[str]) -> list[int]:
    if all(name in bands for name in _TRUE_COLOUR):
        return [bands.index(name) for name in _TRUE_COLOUR]
    order = sorted(range(len(bands)), key=lambda i: BANDS.index(bands[i]) if bands[i] in BANDS else len(BANDS))
    return [order[-1], order[len(order) // 2], order[0]]


def _check(case: ShownCase, output: ShownOutput) -> None:
    shape, grid = case.problem.image.shape, case.problem.image.shape[1:]
    expected = {
        "bands": ((len(case.problem.bands),), shape[:1]),
        "target": (case.target.shape, shape),
        "restored": (output.restored.shape, shape),
        "known": (case.known.shape, grid),
        "valid": (case.problem.valid.shape, grid),
    }
    for name, maps in (("structure", output.structure), ("uncertainty", output.uncertainty)):
        if maps is not None:
            expected[name] = (maps.shape, (len(GROUPS), *grid))
    if output.opacity is not None:
        expected["opacity"] = (output.opacity.shape, grid)
    for name, (found, wanted) in expected.items():
        if found != wanted:
            raise InvalidSettings(f"pictures: {name} of shape {found} does not fit an image of shape {shape}: {wanted}")
