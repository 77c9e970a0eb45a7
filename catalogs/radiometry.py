"""Reflectance from DN, as the metadata state it: reflectance = DN * scale + offset. Never from the date, never from pixels.

From processing baseline 04.00 on (January 2022, and older scenes as ESA reprocesses them) the DN carry +1000, so that
dark pixels do not clip at 0: reflectance = (DN - 1000) / 10000. Some providers have taken that off again. Where an
item says so (`earthsearch:boa_offset_applied: true`) the offset is 0, even if its assets still state -0.1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from catalogs.errors import InvalidItem

DEFAULT_SCALE = 1e-4
"""Reflectance per DN of every Sentinel-2 product so far, where nothing else is stated."""
BASELINE_OFFSET = -0.1
"""Reflectance to be added from baseline 04.00 on, unless the provider has done so."""
HUGE = 1e9
"""No number of an item that is read here is larger; NaN and infinity are not smaller either."""
_APPLIED = ("earthsearch:boa_offset_applied", "sentinel:boa_offset_applied")
_BASELINE = re.compile(r"N?(\d{2})\.?(\d{2})")
_PRODUCT = re.compile(r"_N(\d{2})(\d{2})_")


@dataclass(frozen=True)
class Radiometry:
    """How the DN of one band become reflectance."""

    scale: float
    """Reflectance per DN, positive."""
    offset: float
    """Reflectance still to be added, within -1..1."""
    nodata: int | None
    """DN declared as nodata."""


def baseline_of(properties: Mapping[str, Any]) -> str | None:
    """Processing baseline `05.09` that an item's properties state, None where they state none.

    >>> baseline_of({"s2:product_uri": "S2B_MSIL2A_20230810T094549_N0509_R079_T33TWL_20230810T130104.SAFE"})
    '05.09'
    """
    for key in ("s2:processing_baseline", "sentinel:processing_baseline", "processing:version"):
        match = _BASELINE.fullmatch(str(properties.get(key) or ""))
        if match:
            return ".".join(match.groups())
    for key in ("s2:product_uri", "sentinel:product_id"):
        match = _PRODUCT.search(str(properties.get(key) or ""))
        if match:
            return ".".join(match.groups())
    return None


def baseline_offset(baseline: str | None) -> float:
    """Offset in reflectance of files as ESA makes them: -0.1 from baseline 04.00, before that 0; 0 without a baseline."""
    return BASELINE_OFFSET if baseline is not None and baseline >= "04.00" else 0.0


def radiometry_of(
    asset: Mapping[str, Any],
    index: int,
    properties: Mapping[str, Any],
    rule: Literal["metadata", "baseline"],
    where: str,
) -> Radiometry:
    """Radiometry of band `index` (from 1) of `asset`, an asset of an item with `properties`; `where` is for messages.

    `rule` "metadata": the item's flag, else the asset's offset, else the baseline; "baseline": the item's flag, else
    the baseline. Raises InvalidItem for values that cannot be: a scale outside 0..1, an offset outside -1..1.
    """
    stated = _stated(asset, index)
    scale = _number(stated.get("scale"), "scale", where)
    offset = _number(stated.get("offset"), "offset", where)
    nodata = stated.get("nodata")
    applied = next((properties[key] for key in _APPLIED if key in properties), None)
    if applied is not None and not isinstance(applied, bool):
        raise InvalidItem(f"{where}: boa_offset_applied is {applied!r}: it must be true or false")
    if applied:
        offset = 0.0
    elif offset is None or rule == "baseline":
        offset = baseline_offset(baseline_of(properties))
    if scale is not None and not 0 < scale <= 1:
        raise InvalidItem(f"{where}: scale {scale} is no reflectance per DN: expected 0.0001 or so")
    if not -1 <= offset <= 1:
        raise InvalidItem(f"{where}: offset {offset} is not in units of reflectance: expected -0.1 or so")
    is_dn = isinstance(nodata, int | float) and abs(nodata) < HUGE and float(nodata).is_integer()
    return Radiometry(scale or DEFAULT_SCALE, offset, int(nodata) if is_dn and nodata is not None else None)


def _stated(asset: Mapping[str, Any], index: int) -> dict[str, Any]:
    """What an asset says of one band: `raster:bands` (raster extension 1), or `bands` and the asset itself (STAC 1.1)."""
    keys = ("scale", "offset", "nodata")
    found = {key: asset.get(f"raster:{key}", asset.get(key)) for key in keys}
    for field in ("bands", "raster:bands"):
        bands = asset.get(field) or []
        if index <= len(bands):
            band = bands[index - 1]
            found |= {key: band[name] for key in keys for name in (key, f"raster:{key}") if band.get(name) is not None}
    return found


def _number(value: object, name: str, where: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < HUGE:
        raise InvalidItem(f"{where}: {name} {value!r} is no number")
    return float(value)
