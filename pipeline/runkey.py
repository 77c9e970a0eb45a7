"""`RunKey`: a digest of everything that decides what a product's pixels are.

Covered: the source's metadata and pixels (sha256 of each local file), the other dates that may serve as references,
the mask's configuration, the checkpoint, every parameter, the area when clipping, the format and the version of the
method. Not covered: memory, workers, device, paths. The same key means the same product, so a second run is a no-op.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from catalogs.item import BandAsset, SceneItem
from pipeline.checkpoints import checkpoint_digest
from pipeline.checksums import source_digest
from pipeline.errors import InvalidScene, InvalidSettings, ReadFailed
from pipeline.hrefs import without_credentials
from pipeline.settings import DecloudSettings

METHOD = 1
"""Version of the method: raised when the same inputs would give other pixels."""

_SAMPLE = 65536


@dataclass(frozen=True)
class RunKey:
    """The key and what it was made of."""

    digest: str
    """sha256, 64 hexadecimal digits."""
    parts: Mapping[str, Any]
    """What was hashed, JSON types only; no credentials, no local paths."""

    @property
    def short(self) -> str:
        """The first ten digits, as they stand in a product's id."""
        return self.digest[:10]


def run_key(
    item: SceneItem,
    settings: DecloudSettings,
    candidates: Sequence[SceneItem] = (),
    area: str | None = None,
    cache: Path | None = None,
) -> RunKey:
    """Compute the key of a run.

    item: the scene. candidates: other dates that references are chosen from. area: the area as WKT when the run is
    clipped to it. cache: folder where digests of large files are remembered.

    Raises InvalidScene for a source file that cannot be read, InvalidSettings for a checkpoint or mask that is not there.
    """
    names = settings.bands or tuple(item.bands)
    parts: dict[str, Any] = {
        "method": METHOD,
        "source": _source(item, names, cache),
        "candidates": sorted(
            (_glance(other, names) for other in candidates if _may_serve(item, other, settings)),
            key=lambda entry: str(entry["id"]),
        ),
        "settings": settings.model_dump(mode="json", exclude={"checkpoint", "mask", "bands"}),
        "bands": list(names),
        "mask": _mask(settings.mask, cache),
        "checkpoint": checkpoint_digest(settings.checkpoint),
        "area": area,
    }
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return RunKey(hashlib.sha256(text.encode()).hexdigest(), parts)


def _may_serve(item: SceneItem, other: SceneItem, settings: DecloudSettings) -> bool:
    """Whether another date can become a reference at all; any other must not change the key."""
    days = abs((other.datetime - item.datetime).total_seconds()) / 86_400
    same_tile = item.tile is None or other.tile is None or item.tile == other.tile
    return settings.references > 0 and other.id != item.id and days <= settings.window_days and same_tile


def _source(item: SceneItem, names: Sequence[str], cache: Path | None) -> dict[str, Any]:
    assets = [item.bands[name] for name in names if name in item.bands]
    if item.scl is not None:
        assets.append(item.scl)
    return {
        "id": item.id,
        "datetime": item.datetime.isoformat(),
        "baseline": item.baseline,
        "sun": [item.sun_azimuth, item.sun_elevation],
        "assets": {
            asset.band: {
                "digest": _digest(asset, cache),
                "index": asset.index,
                "scale": asset.scale,
                "offset": asset.offset,
                "nodata": asset.nodata,
            }
            for asset in assets
        },
    }


def _digest(asset: BandAsset, cache: Path | None) -> str:
    path = Path(asset.href)
    if "://" in asset.href or asset.href.startswith("/vsi"):
        return without_credentials(asset.href)
    try:
        return source_digest(path, cache)
    except ReadFailed as error:
        raise InvalidScene(f"{error}; check the path of {asset.band}") from error


def _glance(item: SceneItem, names: Sequence[str]) -> dict[str, Any]:
    """A cheap fingerprint of another date: samples of its files, not all of them."""
    assets = [item.bands[name] for name in names if name in item.bands] + ([item.scl] if item.scl else [])
    return {
        "id": item.id,
        "datetime": item.datetime.isoformat(),
        "baseline": item.baseline,
        "assets": {asset.band: [_sampled(asset.href), asset.index, asset.scale, asset.offset] for asset in assets},
    }


def _sampled(href: str) -> str:
    """sha256 over the size, the head, the middle and the tail of a local file; a URL stands for itself."""
    if "://" in href or href.startswith("/vsi"):
        return without_credentials(href)
    try:
        with Path(href).open("rb") as file:
            size = file.seek(0, 2)
            digest = hashlib.sha256(str(size).encode())
            for start in (0, max(size // 2 - _SAMPLE // 2, 0), max(size - _SAMPLE, 0)):
                file.seek(start)
                digest.update(file.read(_SAMPLE))
    except OSError:
        # A candidate that cannot be read is no error of this scene: it will be passed over as a reference.
        return "unreadable"
    return digest.hexdigest()


def _mask(mask: str, cache: Path | None) -> dict[str, str]:
    if mask in ("s2cloudless", "csmask", "auto", "scl"):
        packages = {"s2cloudless": ["s2cloudless"], "csmask": ["ukis-csmask"], "auto": ["s2cloudless", "ukis-csmask"]}
        return {"method": mask} | {name: _version(name) for name in packages.get(mask, [])}
    try:
        return {"method": "raster", "digest": source_digest(Path(mask), cache)}
    except ReadFailed as error:
        raise InvalidSettings(f"--mask {error}; use auto, scl, s2cloudless, csmask or a raster") from error


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"
