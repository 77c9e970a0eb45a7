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
from pipeline.candidates import may_serve
from pipeline.checkpoints import checkpoint_digest
from pipeline.checksums import source_digest
from pipeline.errors import InvalidScene, InvalidSettings, ReadFailed
from pipeline.hrefs import without_signature
from pipeline.settings import DecloudSettings

METHOD = 2
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

    @property
    def recipe(self) -> str:
        """sha256 of all parts but the other dates: equal where only what a scene may be restored from is another."""
        return _digest_of({name: part for name, part in self.parts.items() if name != "candidates"})


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
            # Any other date cannot change the product, so it must not change the key.
            (
                _glance(other, names)
                for other in candidates
                if settings.references > 0 and may_serve(item, other, settings.window_days)
            ),
            key=lambda entry: str(entry["id"]),
        ),
        "settings": settings.model_dump(mode="json", exclude={"checkpoint", "mask", "bands"}),
        "bands": list(names),
        "mask": _mask(settings.mask, cache),
        "checkpoint": checkpoint_digest(settings.checkpoint),
        "area": area,
    }
    return RunKey(_digest_of(parts), parts)


def _digest_of(parts: Mapping[str, Any]) -> str:
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _source(item: SceneItem, names: Sequence[str], cache: Path | None) -> dict[str, Any]:
    chosen = [item.bands[name] for name in names if name in item.bands] + ([item.scl] if item.scl else [])
    # Detectors and the search for shadows may open bands that are not restored.
    others = [asset for name, asset in item.bands.items() if name not in names]
    return {
        **_described(item),
        "assets": {asset.band: [_digest(item, asset, cache), *_encoding(asset)] for asset in chosen},
        "others": {asset.band: [_glimpse(item, asset), *_encoding(asset)] for asset in others},
    }


def _glance(item: SceneItem, names: Sequence[str]) -> dict[str, Any]:
    """A cheap fingerprint of another date: samples of its files, not all of them."""
    assets = [item.bands[name] for name in names if name in item.bands] + ([item.scl] if item.scl else [])
    return {
        **_described(item),
        "assets": {asset.band: [_glimpse(item, asset), *_encoding(asset)] for asset in assets},
    }


def _described(item: SceneItem) -> dict[str, Any]:
    return {
        "id": item.id,
        "datetime": item.datetime.isoformat(),
        "level": item.level,
        "baseline": item.baseline,
        "sun": [item.sun_azimuth, item.sun_elevation],
    }


def _encoding(asset: BandAsset) -> list[float | int | None]:
    return [asset.index, asset.scale, asset.offset, asset.nodata]


def _digest(item: SceneItem, asset: BandAsset, cache: Path | None) -> str:
    """sha256 of a local file; of a remote one what its item says of it."""
    if _elsewhere(asset.href):
        return _stated(item, asset)
    try:
        return source_digest(Path(asset.href), cache)
    except ReadFailed as error:
        raise InvalidScene(f"{error}; check the path of {asset.band}") from error


def _glimpse(item: SceneItem, asset: BandAsset) -> str:
    """sha256 over the size, the head, the middle and the tail of a local file; of a remote one what its item says."""
    if _elsewhere(asset.href):
        return _stated(item, asset)
    try:
        with Path(asset.href).open("rb") as file:
            size = file.seek(0, 2)
            digest = hashlib.sha256(str(size).encode())
            for start in (0, max(size // 2 - _SAMPLE // 2, 0), max(size - _SAMPLE, 0)):
                file.seek(start)
                digest.update(file.read(_SAMPLE))
    except OSError:
        # What is only looked at is no error of this scene: it will be passed over, or named when it is needed.
        return "unreadable"
    return digest.hexdigest()


def _elsewhere(href: str) -> bool:
    return "://" in href or href.startswith("/vsi")


def _stated(item: SceneItem, asset: BandAsset) -> str:
    """Checksum and last update where the item has them, and the href without its signature, hashed."""
    source = item.stac.get("assets", {}).get(asset.key, {})
    parts = [source.get("file:checksum"), item.stac.get("properties", {}).get("updated"), without_signature(asset.href)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


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
