"""Comparing a product with the known truth: how far the cloudy input was from it, and how far the product is.

Judged are the pixels that clouds and shadows spoiled, found by comparing input and truth themselves, and those that the
product replaced; so neither a cloud that the mask missed nor a clear pixel that was made worse goes uncounted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from catalogs.item import SceneItem
from pipeline.errors import InvalidScene, ReadFailed
from pipeline.product import Product


@dataclass(frozen=True)
class TruthComparison:
    """Errors of one scene, reflectance units."""

    scene: str
    """Id of the source item."""
    judged: float
    """Share of the pixels with data that were spoiled or replaced, 0..1; mean over bands."""
    before: float
    """RMSE of the input over the judged pixels; root of the mean over bands of the mean squared error."""
    after: float
    """The same of the product."""
    bands: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Band -> RMSE before, after."""

    @property
    def ratio(self) -> float:
        """after / before; 0 where there was nothing to restore."""
        return self.after / self.before if self.before > 0 else 0.0


def compare_with_truth(item: SceneItem, product: Product, truth: Path) -> TruthComparison:
    """Compare a COG product of `item` with `<truth>/<band>.tif`, all on the same grids.

    Raises InvalidScene where the files do not fit each other, ReadFailed where one cannot be read.
    """
    errors: dict[str, tuple[float, float]] = {}
    squares, shares = [], []
    for name, asset in item.bands.items():
        path = product.folder / f"{name}.tif"
        if not path.is_file():
            continue
        source, made, true = _read(Path(asset.href)), _read(path), _read(truth / f"{name}.tif")
        if not source.shape == made.shape == true.shape:
            raise InvalidScene(f"{truth / name}.tif: shape {true.shape}, but {made.shape} in the product")
        seen = true != (0 if asset.nodata is None else asset.nodata)
        judged = seen & ((source != true) | (made != source))
        count = max(int(np.count_nonzero(judged)), 1)
        pair = tuple(_squared(image[judged], true[judged]) * asset.scale**2 / count for image in (source, made))
        squares.append(pair)
        shares.append(int(np.count_nonzero(judged)) / max(int(np.count_nonzero(seen)), 1))
        errors[name] = (math.sqrt(pair[0]), math.sqrt(pair[1]))
    if not errors:
        raise InvalidScene(f"{product.folder}: holds no band of {item.id} as COG; there is nothing to compare")
    before, after = (math.sqrt(math.fsum(pair[side] for pair in squares) / len(squares)) for side in (0, 1))
    return TruthComparison(item.id, math.fsum(shares) / len(shares), before, after, errors)


def truth_picture(items: Mapping[str, tuple[SceneItem, Product, Path]], path: Path, width: int = 480) -> Path:
    """Write a picture: a row a scene, `before | after | truth` in true colour, all in one stretch.

    items: caption -> (scene, its product, its folder of the truth). width: of one image, pixels.
    """
    from PIL import Image, ImageDraw

    gap, head = 6, 26
    rows = []
    for caption, (item, product, truth) in items.items():
        folders = (Path(item.bands["B04"].href).parent, product.folder, truth)
        images = [np.stack([_read(folder / f"{name}.tif") for name in ("B04", "B03", "B02")]) for folder in folders]
        lit = images[2][:, images[2].any(axis=0)]
        low, high = np.percentile(lit, (0.5, 99.5))
        pictures = []
        for image in images:
            scaled = np.clip((image.astype(np.float32) - low) / max(high - low, 1), 0, 1) ** (1 / 1.5)
            pixels = np.where(image.any(axis=0), np.rint(scaled * 255), 0).astype(np.uint8)
            picture = Image.fromarray(pixels.transpose(1, 2, 0))
            height = max(1, round(picture.height * width / picture.width))
            pictures.append(picture.resize((width, height), Image.Resampling.LANCZOS))
        rows.append((caption, pictures))
    sheet = Image.new(
        "RGB", (3 * width + 2 * gap, sum(pictures[0].height + head for _, pictures in rows)), (255, 255, 255)
    )
    draw = ImageDraw.Draw(sheet)
    top = 0
    for caption, pictures in rows:
        for column, (title, picture) in enumerate(zip(("before", "after", "truth"), pictures, strict=True)):
            left = column * (width + gap)
            text = f"{caption}   {title}" if column == 0 else title
            draw.text((left + 4, top + 5), text, fill=(0, 0, 0), font_size=14)
            sheet.paste(picture, (left, top + head))
        top += pictures[0].height + head
    sheet.save(path, optimize=True)
    return path


def _read(path: Path) -> npt.NDArray[np.uint16]:
    import rasterio
    from rasterio.errors import RasterioError

    try:
        with rasterio.open(path) as dataset:
            pixels: npt.NDArray[np.uint16] = dataset.read(1)
    except RasterioError as error:
        raise ReadFailed(f"{path}: cannot be read: {error}") from error
    return pixels


def _squared(image: npt.NDArray[np.uint16], true: npt.NDArray[np.uint16]) -> float:
    """Sum of squared differences, DN^2."""
    difference = image.astype(np.int64) - true
    return float(np.dot(difference, difference))
