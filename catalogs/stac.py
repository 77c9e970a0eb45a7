"""`resolve_item`: a STAC item, as some provider writes it, becomes a `SceneItem` with ESA's band names and absolute hrefs.

An item on the local disk is read as what can be processed there. Its local band files are used and the remote ones
left out with the reason; where it has no local band file at all, the remote ones are used. A file that lies beside
the item under the name of a remote asset counts as the local copy of that asset: downloads rarely rewrite the item.
"""

from __future__ import annotations

import os
import re
import reprlib
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from shapely.geometry import box, mapping
from shapely.geometry.base import BaseGeometry

from catalogs.bands import BANDS
from catalogs.documents import links_of
from catalogs.errors import InvalidItem
from catalogs.footprint import geometry_of, split_antimeridian
from catalogs.hrefs import absolute, folder_of, is_remote, joined, require_inside, resolve_href
from catalogs.item import BandAsset, SceneItem
from catalogs.radiometry import HUGE, baseline_of, radiometry_of
from catalogs.sources import SourceRules, rules_of

REMOTE = "remote asset of a local item"
"""Reason in `SceneItem.left_out`."""
_OTHER_MISSION = re.compile(r"landsat|sentinel[- ]?[13456]|modis|terra|aqua|planetscope|naip", re.IGNORECASE)
_TILE = re.compile(r"(?:^|[_-])T?(\d{2}[C-HJ-NP-X][A-HJ-NP-Z]{2})(?=[_.-]|$)")


@dataclass(frozen=True)
class _Found:
    """One band of the item: which asset it is, and where it would be opened."""

    band: str
    key: str
    index: int
    href: str
    missing: bool


def resolve_item(
    stac: Mapping[str, Any], href: str, rules: SourceRules | None = None, *, boundary: str | None = None
) -> SceneItem:
    """The scene that the STAC item `stac`, read from `href` (path or URL), describes.

    `rules` are found from the item where they are not given. `boundary` is the folder that local hrefs may not leave:
    the root folder of a static catalogue; for a lone item its own folder. Raises InvalidItem.
    """
    where = absolute(href)
    item = _parsed(stac, where)
    properties = item["properties"]
    mission = " ".join(str(properties.get(key) or "") for key in ("platform", "constellation"))
    if _OTHER_MISSION.search(mission):
        raise InvalidItem(f"{where}: is of {mission.strip()}, not of Sentinel-2")
    rules = rules or rules_of(item)
    assets: dict[str, dict[str, Any]] = item["assets"]
    used, left_out = _choose(_find(assets, rules, where, boundary or folder_of(where)), local=not is_remote(where))
    _make_absolute(item, where, boundary or folder_of(where), {found.key: found.href for found in used})

    def asset_of(found: _Found) -> BandAsset:
        values = radiometry_of(assets[found.key], found.index, properties, rules.offset, f"{where}: asset {found.key}")
        scale, offset = (1.0, 0.0) if found.band == "SCL" else (values.scale, values.offset)
        # A file of several bands becomes several files of a product, so its bands need keys of their own.
        key = found.key if sum(other.key == found.key for other in used) == 1 else found.band
        return BandAsset(found.band, key, found.href, found.index, scale, offset, values.nodata)

    resolved = {found.band: asset_of(found) for found in used}
    scl = resolved.pop("SCL", None)
    if not resolved:
        reasons = "; ".join(sorted({f"{name}: {reason}" for name, reason in left_out.items()})[:3])
        raise InvalidItem(f"{where}: no Sentinel-2 band can be used ({reasons or 'no asset is named like one'})")
    level = _level(item, scl is not None or "SCL" in left_out, "B10" in resolved or "B10" in left_out)
    if not any(link.get("rel") == "collection" for link in item["links"]):
        # STAC allows the one only with the other, and items that were taken out of a catalogue often lack the link.
        item.pop("collection", None)
    footprint = _footprint(item, where)
    if footprint is not None and not item.get("geometry"):
        item["geometry"] = mapping(footprint)  # a box without a geometry is not allowed either
    zenith = _float(properties.get("s2:mean_solar_zenith"))
    elevation = properties.get("view:sun_elevation", None if zenith is None else 90 - zenith)
    return SceneItem(
        id=item["id"],
        datetime=_datetime(item, where),
        bands={name: resolved[name] for name in BANDS if name in resolved},
        scl=scl,
        level=level,
        tile=tile_of(item),
        baseline=baseline_of(properties),
        cloud_cover=_float(properties.get("eo:cloud_cover")),
        sun_azimuth=_float(properties.get("view:sun_azimuth", properties.get("s2:mean_solar_azimuth"))),
        sun_elevation=_float(elevation),
        geometry=footprint,
        origin=where,
        stac=item,
        left_out=left_out,
    )


def tile_of(item: Mapping[str, Any]) -> str | None:
    """MGRS tile `33TWL` that an item's properties or its id state."""
    properties = item.get("properties") or {}
    code = str(properties.get("grid:code") or "").removeprefix("MGRS-") or str(properties.get("s2:mgrs_tile") or "")
    if not code:
        for name in ("mgrs", "sentinel"):
            zone, letter, square = (
                properties.get(f"{name}:{key}") for key in ("utm_zone", "latitude_band", "grid_square")
            )
            if zone and letter and square:
                code = f"{int(zone):02d}{letter}{square}"
    match = _TILE.search(code) or _TILE.search(str(item.get("id") or ""))
    return match[1] if match else None


def _parsed(stac: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A copy of `stac` with all that an item must have, brought to STAC 1.1 where it is older than 1.0."""
    import pystac  # a run of local files does without

    if stac.get("type") != "Feature" or not isinstance(stac.get("assets"), dict):
        raise InvalidItem(f"{where}: is no STAC item (type {reprlib.repr(stac.get('type'))}, or no assets)")
    if not isinstance(stac.get("properties"), dict) or not isinstance(stac.get("stac_version", ""), str):
        raise InvalidItem(f"{where}: is no STAC item: its properties are no object, or its stac_version is no text")
    if "id" not in stac:
        raise InvalidItem(f"{where}: is no STAC item: it has no id")
    _datetime(stac, where)
    for key, asset in stac["assets"].items():
        if not isinstance(asset, dict) or not isinstance(asset.get("href"), str):
            raise InvalidItem(f"{where}: is no STAC item: asset {key!r} has no href")
        _check_asset(asset, f"{where}: asset {key!r}")
    links = deepcopy(links_of(stac))
    recent = stac.get("stac_version") in ("1.0.0", "1.1.0")
    try:
        # Without its links: pystac would fetch the root to write the item.
        item = pystac.Item.from_dict({**stac, "links": []}, preserve_dict=True, migrate=not recent)
        if recent:
            return deepcopy(dict(stac)) | {"links": links}
        return item.to_dict(include_self_link=False) | {"links": links}
    except (pystac.STACError, pystac.STACTypeError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InvalidItem(f"{where}: is no valid STAC item: {type(error).__name__}: {error}") from None


def _check_asset(asset: Mapping[str, Any], where: str) -> None:
    """Raises InvalidItem where a member of `asset` that is read here is not of the kind that STAC says."""
    for name in ("bands", "eo:bands", "raster:bands"):
        bands = asset.get(name)
        if bands is not None and not (isinstance(bands, list) and all(isinstance(band, dict) for band in bands)):
            raise InvalidItem(f"{where}: {name} is no list of objects")
    roles = asset.get("roles")
    if roles is not None and not (isinstance(roles, list) and all(isinstance(role, str) for role in roles)):
        raise InvalidItem(f"{where}: roles are no list of names")


def _find(assets: dict[str, dict[str, Any]], rules: SourceRules, where: str, boundary: str) -> list[_Found]:
    keys = [(band, keys[0]) for band, keys in rules.band_keys(assets).items()]
    scl = rules.scl_key(assets)
    if scl:
        keys.append(("SCL", (scl, 1)))
    found = []
    for band, (key, index) in keys:
        href = resolve_href(assets[key]["href"], where, boundary)
        if not is_remote(where) and is_remote(href):
            beside = Path(folder_of(where)) / os.path.basename(urlsplit(href).path)  # noqa: PTH119
            href = str(beside) if _is_file(str(beside)) else href
        require_inside(href, where, boundary)
        found.append(_Found(band, key, index, href, missing=not is_remote(href) and not _is_file(href)))
    return found


def _is_file(path: str) -> bool:
    return os.path.isfile(path)  # noqa: PTH113 - Path.is_file raises for a name that is too long


def _choose(found: list[_Found], *, local: bool) -> tuple[list[_Found], dict[str, str]]:
    """Which bands are used, and why the others are not: files that are there, else URLs."""
    left_out = {band.band: f"file not found: {band.href}" for band in found if band.missing}
    usable = [band for band in found if not band.missing]
    if local and any(not is_remote(band.href) for band in usable if band.band != "SCL"):
        left_out |= {band.band: REMOTE for band in usable if is_remote(band.href)}
        usable = [band for band in usable if not is_remote(band.href)]
    return usable, left_out


def _make_absolute(item: dict[str, Any], where: str, boundary: str, chosen: Mapping[str, str]) -> None:
    """Every href of `item` made absolute; assets other than bands that leave the boundary are dropped."""
    for key, asset in list(item["assets"].items()):
        try:
            asset["href"] = chosen.get(key) or resolve_href(asset["href"], where, boundary)
        except InvalidItem:
            del item["assets"][key]
    for link in item["links"]:
        if "://" not in link["href"]:
            target = joined(where, link["href"]) if is_remote(where) else os.path.join(folder_of(where), link["href"])  # noqa: PTH118
            link["href"] = target if is_remote(target) else os.path.normpath(target)


def _datetime(item: Mapping[str, Any], where: str) -> datetime:
    text = item["properties"].get("datetime") or item["properties"].get("start_datetime")
    try:
        if not isinstance(text, str):
            raise ValueError("no text")
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidItem(f"{where}: datetime {str(text)[:40]!r} is no time") from None


def _level(item: Mapping[str, Any], has_scl: bool, has_cirrus: bool) -> Literal["L1C", "L2A"] | None:  # noqa: FBT001
    properties = item["properties"]
    names = (properties.get("s2:product_type"), properties.get("product:type"), item.get("collection"), item["id"])
    for text in (str(name or "").upper() for name in names):
        if "2A" in text.replace("S2A", ""):
            return "L2A"
        if "1C" in text:
            return "L1C"
    return "L2A" if has_scl else "L1C" if has_cirrus else None


def _footprint(item: Mapping[str, Any], where: str) -> BaseGeometry | None:
    if item.get("geometry"):
        return geometry_of(item["geometry"], where)
    bbox = item.get("bbox")
    if isinstance(bbox, list) and len(bbox) == 4:
        if not all(_float(value) is not None and abs(value) <= 1000 for value in bbox):
            raise InvalidItem(f"{where}: bbox {str(bbox)[:80]} holds no degrees")
        west, south, east, north = bbox
        return split_antimeridian(box(west, south, east + 360 if east < west else east, north))
    return None


def _float(value: object) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < HUGE
    return float(value) if is_number else None  # type: ignore[arg-type]
