"""`view_pictures`: what a page shows of one product: before, after, and its layers as see-through pictures over them.

Before and after are the product's own preview, which was made with it from the source, whether or not that is still there. Without a
preview that can be read, the picture after is made from the bands, and there is none of before.
"""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.address import address
from pipeline.confidence import OBSERVED
from pipeline.errors import InvalidScene, PipelineError, ReadFailed
from pipeline.header import warnings_lock
from pipeline.layers import CLOUD_CLASSES, PROVENANCE, PROVENANCE_COLOURS
from pipeline.pictures import Picture, encode, stretch, true_colour
from pipeline.preview import GAP
from pipeline.productview import ProductView
from pipeline.publish import read_file
from pipeline.viewlayers import LONGEST, ViewLayers

Colour = tuple[int, int, int]

LAYERS = ("provenance", "confidence", "cloudmask")
"""What can be laid over a picture."""
OVER_PROVENANCE: Mapping[int, Colour] = MappingProxyType(
    {value: PROVENANCE_COLOURS[value][:3] for value in (2, 3, 4, 5)}
)
"""Colours over the picture; what was observed is not coloured, so that it can be seen."""
OVER_CLOUDMASK: Mapping[int, Colour] = MappingProxyType(
    {2: (240, 228, 66), 3: (213, 94, 0), 4: (0, 114, 178), 5: (86, 180, 233)}
)
"""The mask's own file shows thick cloud white and shadow black, which over a cloud and its shadow nobody sees."""
STEPS = 20
"""Shades of confidence, each 5 % wide: more of them nobody tells apart, and they double the size."""
_LARGEST = 8192
"""Pixels of a side beyond which a preview is none of ours."""
_THUMBNAIL = 320
_RGB = ("B04", "B03", "B02")
# Viridis (Smith and van der Walt, CC0) without its dark quarter, which over a dark forest looks like a hole.
_CERTAIN = (
    (253, 231, 37),
    (173, 220, 48),
    (94, 201, 98),
    (40, 174, 128),
    (33, 145, 140),
    (44, 114, 142),
    (59, 82, 139),
)


@dataclass(frozen=True)
class ViewPictures:
    """Encoded pictures of one product."""

    before: bytes = field(default=b"", repr=False)
    """WebP; empty where there is none."""
    after: bytes = field(default=b"", repr=False)
    thumbnail: bytes = field(default=b"", repr=False)
    """Before and after side by side, small."""
    layers: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    """Name -> PNG with a palette, in the shape of the pictures or of the same proportions."""
    size: tuple[int, int] = (0, 0)
    """Width and height of before and after, pixels."""
    problems: tuple[str, ...] = ()
    """What could not be shown, and why."""


def view_pictures(view: ProductView, longest: int = LONGEST) -> ViewPictures:
    """The pictures of a product, their longer side at most `longest` pixels; what cannot be shown is a line of `problems`.

    Raises ReadFailed where a bucket does not answer: it would not for the next file either, and each try takes its time.
    """
    problems: list[str] = []
    with ViewLayers(view, longest) as pixels:
        before, after = _sides(view, pixels, problems)
        shown = _encoded_layers(view, pixels, problems)
    if after is None:
        return ViewPictures(layers=shown, problems=tuple(problems))
    parts = [picture for picture in (before, after) if picture is not None]
    return ViewPictures(
        encode(before, longest) if before is not None else b"",
        encode(after, longest),
        _thumbnail(parts),
        shown,
        (after.shape[1], after.shape[0]),
        tuple(problems),
    )


def shade(percent: int) -> Colour:
    """Colour of a confidence from 0 to 100 %: the doubtful is bright, the certain dark.

    >>> shade(0), shade(100)
    ((253, 231, 37), (59, 82, 139))
    """
    place, stops = percent / 100 * (len(_CERTAIN) - 1), range(len(_CERTAIN))
    red, green, blue = (round(float(np.interp(place, stops, [stop[i] for stop in _CERTAIN]))) for i in range(3))
    return red, green, blue


def _sides(view: ProductView, pixels: ViewLayers, problems: list[str]) -> tuple[Picture | None, Picture | None]:
    try:
        return _halves(_preview(view))
    except PipelineError as error:
        _note(view, error, problems)
    try:
        return None, _from_bands(view, pixels)
    except PipelineError as error:
        _note(view, error, problems)
    return None, None


def _note(view: ProductView, error: Exception, problems: list[str]) -> None:
    if isinstance(error, ReadFailed) and view.in_bucket:
        raise error
    problems.append(str(error))


def _preview(view: ProductView) -> Picture:
    """The product's own picture (rows, columns, 3). Raises InvalidScene where it is missing, damaged or none, ReadFailed."""
    from PIL import Image

    if not view.preview:
        raise InvalidScene(f"{view.id}: its item names no preview")
    what = f"{view.id}: {view.preview}"
    content = read_file(address(view.folder / view.preview))
    try:
        with warnings_lock, warnings.catch_warnings():
            # Of its size nobody is warned: it is looked at before anything is decoded.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(BytesIO(content), formats=("PNG", "WEBP", "JPEG"))
        if max(image.size) > _LARGEST:
            raise InvalidScene(f"{what}: a picture of {image.width} x {image.height} is no preview of ours")
        return np.asarray(image.convert("RGB"))
    except (
        OSError,
        EOFError,
        SyntaxError,
        ValueError,
        struct.error,
        zlib.error,
        Image.DecompressionBombError,
    ) as error:
        raise InvalidScene(f"{what} cannot be shown: it is damaged, or no picture") from error


def _halves(picture: Picture) -> tuple[Picture, Picture]:
    """Before and after of a preview. Raises InvalidScene for a picture without two halves of one size."""
    side, rest = divmod(picture.shape[1] - GAP, 2)
    if side < 1 or rest:
        raise InvalidScene(f"a preview {picture.shape[1]} pixels wide is no pair of pictures")
    return picture[:, :side], picture[:, side + GAP :]


def _from_bands(view: ProductView, pixels: ViewLayers) -> Picture:
    """The picture after, from the bands themselves."""
    names = [name for name in _RGB if name in view.rasters and name in view.encodings]
    if not names:
        raise InvalidScene(f"{view.id}: no visible band to make a picture of")
    stored = np.stack([pixels.read(name) for name in names])
    there = (stored != 0).any(axis=0)
    image = np.stack(
        [
            np.float32(view.encodings[name][0]) * band + np.float32(view.encodings[name][1])
            for name, band in zip(names, stored.astype(np.float32), strict=True)
        ]
    )
    low, high = stretch(image, names, there if there.any() else None)
    return true_colour(image, names, low, high, there)


def _encoded_layers(view: ProductView, pixels: ViewLayers, problems: list[str]) -> dict[str, bytes]:
    shown: dict[str, bytes] = {}
    if view.out_of_reach:
        return shown
    for name in LAYERS:
        if name not in view.rasters:
            continue
        try:
            shown[name] = _layer(name, pixels.read(name))
        except PipelineError as error:
            _note(view, error, problems)
    return shown


def _layer(name: str, values: NDArray[Any]) -> bytes:
    """A layer as a PNG with a palette; what the reader is to see the picture through is transparent."""
    if values.dtype != np.uint8:
        raise InvalidScene(f"{name} is {values.dtype}, not uint8")
    if name == "confidence":
        shades = {number + 1: shade(round(100 * number / (STEPS - 1))) for number in range(STEPS)}
        steps = np.minimum(values.astype(np.uint16) * STEPS // OBSERVED, STEPS - 1).astype(np.uint8) + 1
        return _palette(np.where(values < OBSERVED, steps, np.uint8(0)), shades)
    classes, colours = (PROVENANCE, OVER_PROVENANCE) if name == "provenance" else (CLOUD_CLASSES, OVER_CLOUDMASK)
    unknown = values[values > max(classes)]
    if unknown.size:
        raise InvalidScene(f"{name} has the value {unknown[0]}, which means nothing here")
    return _palette(np.where(np.isin(values, list(colours)), values, np.uint8(0)), colours)


def _palette(values: NDArray[np.uint8], colours: Mapping[int, Colour]) -> bytes:
    """PNG of `values`, of which 0 is see-through."""
    from PIL import Image

    table = [0] * 3 * (max(colours) + 1)
    for value, colour in colours.items():
        table[3 * value : 3 * value + 3] = colour
    image = Image.fromarray(np.ascontiguousarray(values))
    image.putpalette(table)
    target = BytesIO()
    image.save(target, "PNG", transparency=0, compress_level=9)
    return target.getvalue()


def _thumbnail(pictures: list[Picture]) -> bytes:
    """The pictures side by side, each at most `_THUMBNAIL` / 2 pixels."""
    from PIL import Image

    images = [Image.fromarray(picture) for picture in pictures]
    for image in images:
        image.thumbnail((_THUMBNAIL // 2, _THUMBNAIL // 2), Image.Resampling.BOX)
    sheet = Image.new("RGB", (sum(image.width for image in images) + 2 * (len(images) - 1), images[0].height), "white")
    across = 0
    for image in images:
        sheet.paste(image, (across, 0))
        across += image.width + 2
    return encode(np.asarray(sheet), _THUMBNAIL + 2)
