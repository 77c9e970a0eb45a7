"""`SourceRules`: how one provider's items name their bands and state their radiometry; the known ones are in `sources.yaml`.

For a catalogue that is not known the rules are guessed from the item's own assets: from the key (`B02`, `B02_10m`,
`blue`), then from the band names that the asset states (`eo:bands` or STAC 1.1's `bands`). Quick looks, true-colour
images and the `-jp2` duplicates of Earth Search are never taken for bands.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any, Literal
from urllib.parse import urlsplit

import yaml

from catalogs.bands import BANDS, find_band
from catalogs.errors import InvalidItem, SourceUnavailable

# `B02_10m`, `B8A_20m`, `b2`: a band and its pixel size.
_KEY = re.compile(r"(?P<band>B\d{1,2}A?)(?:[_-](?P<gsd>10|20|60)m)?", re.IGNORECASE)
_NOT_BANDS = re.compile(r"(?i)(^|[-_])(jp2|visual|tci|thumbnail|preview|overview|rendered|pvi|browse)([-_]|$)")
_NOT_ROLES = {"thumbnail", "overview", "visual", "metadata", "cloud", "cloud-shadow", "snow-ice", "data-mask"}


@dataclass(frozen=True)
class SourceRules:
    """What has to be known about a provider to read its items."""

    name: str = "unknown"
    title: str = "a catalogue without rules of its own"
    url: str | None = None
    """STAC API, None for rules that are not bound to one."""
    collections: Mapping[str, str] = field(default_factory=dict)
    """Processing level (`L1C`, `L2A`) -> collection."""
    marks: tuple[str, ...] = ()
    """Texts in links and hrefs that give the provider away."""
    assets: Mapping[str, str] = field(default_factory=dict)
    """Asset key -> ESA's band name, the preferred key of a band first; empty: guess."""
    scl: tuple[str, ...] = ()
    """Asset keys of the scene classification, the preferred one first."""
    offset: Literal["metadata", "baseline"] = "metadata"
    """Where the radiometric offset is found, see `catalogs.radiometry`."""
    tile: Mapping[str, str] = field(default_factory=dict)
    """`property` and `prefix` by which the API filters MGRS tiles; empty where it cannot."""
    sign: tuple[str, ...] = ()
    """Hosts whose files need a signed URL."""

    def band_keys(self, assets: Mapping[str, Mapping[str, Any]]) -> dict[str, list[tuple[str, int]]]:
        """ESA's band name -> (asset key, band index from 1) in order of preference, for the `assets` of an item."""
        found: dict[str, list[tuple[str, int]]] = {}
        for key, name in self.assets.items():
            if key in assets:
                found.setdefault(name, []).append((key, 1))
        found = found or _guess(assets)
        return {name: found[name] for name in BANDS if name in found}

    def scl_key(self, assets: Mapping[str, Mapping[str, Any]]) -> str | None:
        """Asset key of the scene classification among `assets`, None where there is none."""
        for key in (*self.scl, "scl", "SCL", "SCL_20m", "scl_20m", "SCL_60m"):
            if key in assets:
                return key
        return None


GUESSED = SourceRules()
"""The rules of a catalogue about which nothing is known."""


@cache
def known_sources() -> Mapping[str, SourceRules]:
    """The rules of `sources.yaml` by name."""
    entries: dict[str, dict[str, Any]] = yaml.safe_load(
        resources.files("catalogs").joinpath("sources.yaml").read_text(encoding="utf-8")
    )
    for entry in entries.values():
        entry |= {key: tuple(value) for key, value in entry.items() if isinstance(value, list)}
    return {name: SourceRules(name=name, **entry) for name, entry in entries.items()}


def rules_of(stac: Mapping[str, Any]) -> SourceRules:
    """The rules that fit a well-formed item: those of the provider that it names in its properties, links or hrefs, else `GUESSED`.

    The provider's asset keys must be there too: a copy with other keys is read by guessing.
    """
    assets = stac.get("assets") or {}
    properties = stac.get("properties") or {}
    texts = [str(link["href"]) for link in stac.get("links") or [] if link.get("rel") != "derived_from"]
    texts += [str(asset.get("href", "")) for asset in assets.values()]
    for rules in known_sources().values():
        marked = any(mark in text for mark in rules.marks for text in texts)
        if rules.name == "earth-search":
            marked = marked or any(str(key).startswith("earthsearch:") for key in properties)
        if marked and any(key in rules.assets for key in assets):
            return rules
    return GUESSED


def signed(href: str) -> str:
    """`href` as it can be opened: signed where its host asks for that (Planetary Computer), else as it is.

    Signatures run out within the hour, so sign when opening, not when searching. Raises InvalidItem where the package
    `planetary-computer` is needed and not installed, SourceUnavailable where no signature could be had.
    """
    host = urlsplit(href).netloc
    if "sig=" in urlsplit(href).query or not any(host in rules.sign for rules in known_sources().values()):
        return href
    try:
        import planetary_computer  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        raise InvalidItem(
            f"{href}: {host} wants signed URLs: pip install planetary-computer, or use earth-search"
        ) from None
    try:
        return str(planetary_computer.sign_url(href))
    except OSError as error:  # requests' exceptions are OSErrors
        raise SourceUnavailable(f"{href}: no signature from {host}: {error}") from None


def _guess(assets: Mapping[str, Mapping[str, Any]]) -> dict[str, list[tuple[str, int]]]:
    """Bands of an unknown provider. Files of one band win over a file of several; the native pixel size over others."""
    single: dict[str, list[tuple[int, str]]] = {}
    several: dict[str, list[tuple[str, int]]] = {}
    for key, asset in assets.items():
        if _NOT_BANDS.search(key) or _NOT_ROLES & set(asset.get("roles") or ()) or not _is_raster(asset):
            continue
        stated = asset.get("bands") or asset.get("eo:bands") or []
        match = _KEY.fullmatch(key)
        if match or find_band(key):
            name = find_band(match["band"] if match else key)
        else:
            name = _stated_band(stated[0]) if len(stated) == 1 else None
        if name:
            gsd = int(match["gsd"]) if match and match["gsd"] else BANDS[name].gsd
            single.setdefault(name, []).append((abs(gsd - BANDS[name].gsd), key))
            continue
        for index, band in enumerate(stated, 1):
            inner = _stated_band(band)
            if inner and len(stated) > 1:
                several.setdefault(inner, []).append((key, index))
    if single:
        return {name: [(key, 1) for _, key in sorted(keys)] for name, keys in single.items()}
    return several


def _stated_band(band: Mapping[str, Any]) -> str | None:
    names = (band.get("name"), band.get("common_name"), band.get("eo:common_name"))
    return next((found for name in names if isinstance(name, str) and (found := find_band(name))), None)


def _is_raster(asset: Mapping[str, Any]) -> bool:
    media = str(asset.get("type") or "").lower()
    return not media or ("image/" in media and "png" not in media and "jpeg" not in media.replace("jpeg2000", ""))
