"""`source_bands`: the source's own pixels, for a product whose picture of before is lost; only files of this machine are asked."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InvalidScene
from pipeline.productview import ProductView
from pipeline.reader import BandReader, is_remote, local_path


def source_bands(view: ProductView, names: Sequence[str], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Reflectance (bands, rows, columns) of the source's bands `names` at about `shape`, read as the product says they are encoded.

    Raises InvalidScene where the source is remote, gone, or not on the product's grid.
    """
    assets = _assets(view)
    reader = BandReader()
    try:
        return np.stack([_band(view, name, assets, reader, shape) for name in names])
    finally:
        reader.close()


def _assets(view: ProductView) -> dict[str, str]:
    """Key -> path, of the source's item."""
    path = local_path(view.source)
    if not view.source or path is None or is_remote(view.source):
        raise InvalidScene(f"its source {view.scene} is not on this machine")
    try:
        item = json.loads(path.read_text(encoding="utf-8"))
        found = {
            str(key): _beside(path, str(asset["href"]))
            for key, asset in item["assets"].items()
            if isinstance(asset, Mapping)
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidScene(f"the item of its source {view.scene} is gone, or cannot be read") from error
    return found


def _beside(item: Path, href: str) -> str:
    return href if is_remote(href) or Path(href).is_absolute() else str(item.parent / href)


def _band(
    view: ProductView, name: str, assets: Mapping[str, str], reader: BandReader, shape: tuple[int, ...]
) -> NDArray[np.float32]:
    href = assets.get(view.keys.get(name, ""), "")
    path = local_path(href) if href else None
    if path is None or name not in view.encodings:
        raise InvalidScene(f"its source {view.scene} has no {name} on this machine")
    size = reader.header(str(path)).shape
    step = max(1, round(max(size) / max(shape)))
    pixels: NDArray[Any] = reader.read_decimated(str(path), 1, step)
    if pixels.shape != tuple(shape):
        raise InvalidScene(f"{name} of its source {view.scene} has another grid")
    scale, offset = view.encodings[name]
    image: NDArray[np.float32] = np.float32(scale) * pixels.astype(np.float32) + np.float32(offset)
    return image
