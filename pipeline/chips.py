"""Training chips: SEN12MS-CR pairs, SEN12MS-CR-TS series and Sentinel-2 L2A items, written as plain arrays.

A store is a folder with `manifest.json` and, a chip, `<id>/images.npy` uint16 (dates, 13, rows, cols), reflectance times
10000, and `<id>/masks.npy` uint8 (dates, rows, cols): 0 no data, 1 clear, 2 cloud, 3 shadow. So `srgan` reads it with numpy alone.

Nothing is trusted: every image gets its cloud mask here; a pair whose "clear" side is cloudy, under cirrus or snow is left out with
its reason, and one whose cloudy side holds no cloud is no pair. Groups (a ROI, or a tile) belong to one split whole, by exact name.

    python -m pipeline.chips --data ../shared/data --store STORE
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from scipy import ndimage

from catalogs.bands import BANDS
from pipeline.errors import InvalidScene

LOG = logging.getLogger(__name__)

NAMES = tuple(BANDS)
SIZE = 256
NODATA, CLEAR, CLOUD, SHADOW = 0, 1, 2, 3
LEAST_COVER = 0.015
"""Share of cloud from which the cloudy side of a pair counts as such."""
LEAST_CLEAR = 0.85
"""Share of clear pixels that the best date of a chip needs."""

HELD_OUT = {
    "ROIs1158_spring_39": "test",
    "ROIs1868_summer_102": "test",
    "ROIs1868_summer_100": "val",
    "ROIs2017_winter_102": "val",
    "33TWL": "acceptance",
}
"""Groups that training never sees. `acceptance` is not used for choosing anything either. All ROIs here are `train` officially."""

PAIR = re.compile(r"^ROIs(1158|1868|1970|2017)_(spring|summer|fall|winter)_(s1|s2|s2_cloudy)_(\d+)_p(\d+)\.tif$")
SERIES = re.compile(r"^s2_ROIs(\d+)_(\d+)_ImgNo_(\d+)_(\d{4})-(\d{2})-(\d{2})_patch_(\d+)\.tif$")
SCL_CLASSES = np.array([0, 1, 1, 3, 1, 1, 1, 1, 2, 2, 2, 1], np.uint8)
"""Scene classification (L2A) to our classes; 11 is snow, 2 topographic shade: both ground."""


@dataclass(frozen=True)
class Chip:
    """One row of the manifest."""

    id: str
    """Folder of the chip in the store."""
    group: str
    """ROI or tile: what is split, and what a bootstrap draws."""
    split: str
    """train, val, test or acceptance."""
    kind: str
    """pair (date 0 is clear, date 1 cloudy), series (dates in order), single (one date)."""
    days: tuple[int, ...]
    """Days since the first date; 0 where dates are not known (SEN12MS-CR)."""
    bands: tuple[str, ...]
    """Bands that hold data; the others are 0."""
    cloud: tuple[float, ...]
    """Share of cloud and shadow of each date, 0..1."""

    def __post_init__(self) -> None:
        if self.kind not in ("pair", "series", "single") or len(self.days) != len(self.cloud):
            raise ValueError(
                f"chip {self.id}: kind {self.kind!r}, {len(self.days)} dates, {len(self.cloud)} cloud shares"
            )


class CloudDetector:
    """Cloud masks of 13-band L1C images by s2cloudless, loaded once."""

    def __init__(self, threshold: float = 0.4) -> None:
        from s2cloudless.cloud_detector import S2PixelCloudDetector

        self._detector = S2PixelCloudDetector(threshold=threshold, all_bands=True, average_over=4, dilation_size=2)

    def mask(self, image: np.ndarray) -> np.ndarray:
        """Classes (rows, cols) uint8 of a uint16 image (13, rows, cols): no data, clear or cloud."""
        reflectance = np.moveaxis(image, 0, -1)[None].astype(np.float32) / 1e4
        cloud = self._detector.get_cloud_masks(reflectance)[0] > 0
        return np.where((image == 0).all(0), NODATA, np.where(cloud, CLOUD, CLEAR)).astype(np.uint8)


def read_image(path: Path) -> np.ndarray:
    """The 13 bands of a SEN12MS-CR image, uint16 (13, 256, 256), clipped to 0..10000. Raises InvalidScene for anything else."""
    try:
        with rasterio.open(path) as source:
            image = source.read()
    except RasterioError as error:
        raise InvalidScene(f"{path}: cannot be read ({str(error).splitlines()[0]}): download it again") from error
    if image.shape != (13, SIZE, SIZE) or image.dtype != np.uint16:
        raise InvalidScene(f"{path}: {image.dtype} {image.shape}, a SEN12MS-CR image is uint16 (13, {SIZE}, {SIZE})")
    if not image.any():
        raise InvalidScene(f"{path}: holds nothing but zeros")
    return np.asarray(np.minimum(image, 10000))


def pair_paths(root: Path) -> dict[tuple[str, str, str, str], dict[str, Path]]:
    """Files by (seed, season, ROI, patch), then by side (`s2`, `s2_cloudy`, `s1`), from the names alone."""
    found: dict[tuple[str, str, str, str], dict[str, Path]] = {}
    for path in sorted(root.rglob("ROIs*.tif")):
        if match := PAIR.match(path.name):
            seed, season, side, roi, patch = match.groups()
            found.setdefault((seed, season, roi, patch), {})[side] = path
    return found


def pair_fault(clear: np.ndarray, clear_mask: np.ndarray) -> str | None:
    """Why the clear side of a pair is none, or None. `clear` uint16 (13, rows, cols), mask (rows, cols)."""
    if (cloud := float((clear_mask == CLOUD).mean())) > 0.1:
        return f"{cloud:.0%} of the clear side is cloud"
    if (cirrus := float(np.median(clear[NAMES.index("B10")])) / 1e4) > 0.006:
        return f"the clear side is under cirrus: B10 has a median of {cirrus:.4f}"
    if (snow := float(snow_of(clear).mean())) > 0.1:
        return f"{snow:.0%} of the clear side is snow"
    return None


def snow_of(image: np.ndarray) -> np.ndarray:
    """Snow by NDSI > 0.4, NIR > 0.11, green > 0.1 (MODIS SNOWMAP), bool (rows, cols)."""
    green, nir, swir = (image[NAMES.index(name)].astype(np.float32) / 1e4 for name in ("B03", "B08", "B11"))
    return np.asarray((green - swir > 0.4 * (green + swir)) & (nir > 0.11) & (green > 0.1))


def shadow_of(clear: np.ndarray, cloudy: np.ndarray, cloud: np.ndarray) -> np.ndarray:
    """Cloud shadow by comparison with the clear date: NIR and SWIR fall together, within 1.5 km of a cloud."""
    if not cloud.any():
        return np.zeros(cloud.shape, bool)
    dark = np.ones(cloud.shape, bool)
    for name in ("B08", "B11"):
        before, after = (image[NAMES.index(name)].astype(np.float32) / 1e4 for image in (clear, cloudy))
        dark &= (after < 0.7 * before) & (before - after > 0.04)
    near = ndimage.distance_transform_edt(~cloud) < 150
    return np.asarray(ndimage.binary_opening(dark & near & ~cloud, iterations=2))


def pair_chips(
    root: Path, detector: CloudDetector, rejects: dict[str, str]
) -> Iterator[tuple[Chip, np.ndarray, np.ndarray]]:
    """Chips of the SEN12MS-CR pairs below `root`; what is left out goes to `rejects` with its reason."""
    for (seed, season, roi, patch), sides in pair_paths(root).items():
        group = f"ROIs{seed}_{season}_{roi}"
        name = f"{group}_p{patch}"
        if missing := {"s2", "s2_cloudy"} - sides.keys():
            rejects[name] = f"no {', '.join(sorted(missing))} beside it"
            continue
        try:
            images = np.stack([read_image(sides["s2"]), read_image(sides["s2_cloudy"])])
        except InvalidScene as error:
            rejects[name] = str(error)
            continue
        masks = np.stack([detector.mask(image) for image in images])
        if fault := pair_fault(images[0], masks[0]):
            rejects[name] = fault
            continue
        covered = float((masks[1] == CLOUD).mean())
        if covered < LEAST_COVER:
            # No pair, but two clear dates of one place: ground for synthetic clouds, and references for each other.
            rejects[f"{name} as a pair"] = f"{covered:.1%} of the cloudy side is cloud"
            yield _chip(name, group, "series", (0, 0), NAMES, masks), images, masks
            continue
        masks[1][shadow_of(images[0], images[1], masks[1] == CLOUD)] = SHADOW
        yield _chip(name, group, "pair", (0, 0), NAMES, masks), images, masks


def series_chips(
    root: Path, detector: CloudDetector, rejects: dict[str, str]
) -> Iterator[tuple[Chip, np.ndarray, np.ndarray]]:
    """Chips of SEN12MS-CR-TS below `root`: a patch with all its dates; a patch of one date only where it is clear."""
    patches: dict[tuple[str, str], dict[date, Path]] = {}
    for path in root.rglob("s2_ROIs*.tif"):
        if match := SERIES.match(path.name):
            seed, roi, _, year, month, day, patch = match.groups()
            patches.setdefault((f"ROIs{seed}_{roi}", patch), {})[date(int(year), int(month), int(day))] = path
    for (group, patch), paths in sorted(patches.items()):
        name = f"{group}_patch{patch}"
        images, masks, days = [], [], []
        for day, path in sorted(paths.items()):
            try:
                images.append(read_image(path))
            except InvalidScene as error:
                rejects[f"{name}_{day}"] = str(error)
                continue
            masks.append(detector.mask(images[-1]))
            days.append((day - min(paths)).days)
        clear = [float((mask == CLEAR).mean()) for mask in masks]
        if not clear or max(clear) < LEAST_CLEAR:
            rejects[name] = f"no date is clear: at most {max(clear, default=0):.0%}"
            continue
        if len(images) == 1 and (snow := float(snow_of(images[0]).mean())) > 0.1:
            rejects[name] = f"{snow:.0%} snow"
            continue
        kind = "series" if len(images) > 1 else "single"
        yield _chip(name, group, kind, tuple(days), NAMES, np.stack(masks)), np.stack(images), np.stack(masks)


def item_chips(items: Sequence[Path], rejects: dict[str, str]) -> Iterator[tuple[Chip, np.ndarray, np.ndarray]]:
    """Chips of L2A items of one tile (STAC item JSONs with SCL): one date makes single chips, more make series."""
    read = []
    for path in items:
        try:
            read.append(read_item(path))
        except (InvalidScene, RasterioError) as error:
            rejects[path.stem] = str(error)
    if not read:
        return
    read.sort(key=lambda entry: entry[0])
    first, tile = read[0][0], read[0][1]
    stack, classes = np.stack([entry[2] for entry in read]), np.stack([entry[3] for entry in read])
    bands = tuple(name for index, name in enumerate(NAMES) if stack[:, index].any())
    days = tuple((entry[0] - first).days for entry in read)
    rows, cols = classes.shape[1:]
    for row in range(0, rows - SIZE + 1, SIZE):
        for col in range(0, cols - SIZE + 1, SIZE):
            window = np.s_[..., row : row + SIZE, col : col + SIZE]
            masks = classes[window]
            name = f"{tile}_r{row}_c{col}"
            if (best := (masks == CLEAR).mean((1, 2)).max()) < LEAST_CLEAR:
                rejects[name] = f"no date is clear: at most {best:.0%}"
                continue
            yield _chip(name, tile, "series" if len(read) > 1 else "single", days, bands, masks), stack[window], masks


def read_item(path: Path) -> tuple[date, str, np.ndarray, np.ndarray]:
    """Date, tile, images (13, rows, cols) uint16 and classes (rows, cols) of a local L2A item, on the grid of its finest band."""
    item: dict[str, Any] = json.loads(path.read_text())
    properties = item["properties"]
    applied = bool(properties.get("earthsearch:boa_offset_applied"))
    folder = path.parent
    files = {name: folder / f"{name}.tif" for name in NAMES if (folder / f"{name}.tif").is_file()}
    if not files or not (folder / "SCL.tif").is_file():
        raise InvalidScene(f"{path}: no bands, or no SCL.tif, beside the item")
    shapes = []
    for file in files.values():
        with rasterio.open(file) as source:
            shapes.append(source.shape)
    shape = max(shapes)
    offsets = {Path(str(asset.get("href", ""))).stem: asset for asset in item["assets"].values()}
    images = np.zeros((len(NAMES), *shape), np.uint16)
    for name, file in files.items():
        with rasterio.open(file) as source:
            values = source.read(1, out_shape=shape, resampling=Resampling.bilinear).astype(np.int32)
        offset = float((offsets.get(name, {}).get("raster:bands") or [{}])[0].get("offset", 0.0))
        # The offset is stated even where it was applied already: then the file holds reflectance times 10000.
        shift = 0 if applied else round(offset * 1e4)
        images[NAMES.index(name)] = np.where(values > 0, (values + shift).clip(1, 10000), 0)
    with rasterio.open(folder / "SCL.tif") as source:
        scl = source.read(1, out_shape=shape, resampling=Resampling.nearest)
    classes = SCL_CLASSES[np.minimum(scl, 11)]
    tile = properties.get("grid:code", path.stem).removeprefix("MGRS-")
    return date.fromisoformat(properties["datetime"][:10]), tile, images, classes


def write_store(store: Path, data: Path) -> dict[str, Any]:
    """Write all chips of `data` into the folder `store`; the manifest comes last and is returned."""
    rejects: dict[str, str] = {}
    detector = CloudDetector()
    rows: list[dict[str, Any]] = []

    def sources() -> Iterator[tuple[Chip, np.ndarray, np.ndarray]]:
        yield from pair_chips(data / "SEN12MSCR", detector, rejects)
        yield from series_chips(data / "SEN12MSCRTS", detector, rejects)
        for folder in ("sentinel2_29RKH", "earth-search"):
            yield from item_chips(sorted((data / "stac" / folder).rglob("S2*_L2A.json")), rejects)

    for chip, images, masks in sources():
        folder = store / chip.id
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "images.npy", images)
        np.save(folder / "masks.npy", masks)
        rows.append(asdict(chip))
        LOG.info("%s %s %s cloud %s", chip.split, chip.kind, chip.id, " ".join(f"{share:.2f}" for share in chip.cloud))
    split = sorted({(row["group"], row["split"]) for row in rows})
    manifest = {
        "bands": NAMES,
        "split_hash": hashlib.sha256(json.dumps(split).encode()).hexdigest(),
        "chips": rows,
        "rejects": rejects,
    }
    temporary = store / "manifest.json.part"
    temporary.write_text(json.dumps(manifest, indent=1))
    temporary.replace(store / "manifest.json")
    return manifest


def _chip(name: str, group: str, kind: str, days: tuple[int, ...], bands: tuple[str, ...], masks: np.ndarray) -> Chip:
    cloud = tuple(round(float(((mask == CLOUD) | (mask == SHADOW)).mean()), 4) for mask in masks)
    return Chip(name, group, HELD_OUT.get(group, "train"), kind, days, bands, cloud)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Write training chips")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--store", type=Path, required=True)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    manifest = write_store(arguments.store, arguments.data)
    for name, reason in manifest["rejects"].items():
        LOG.info("left out %s: %s", name, reason)


if __name__ == "__main__":
    main()
