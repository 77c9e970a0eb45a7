"""What our items must keep to in the fields of STAC extensions: our reading of the specifications, not the official schemas.

The official schemas live on the network and are in no package. These rules stand in for them, so that pystac's own validation runs
offline, extension by extension: each field has its type and range, and a field of that prefix which the extension does not know is refused.
"""

from __future__ import annotations

from typing import Any

from pystac.validation.stac_validator import JsonSchemaSTACValidator

NUMBER: dict[str, Any] = {"type": "number"}
TEXT: dict[str, Any] = {"type": "string", "minLength": 1}
PERCENT = {"type": "number", "minimum": 0, "maximum": 100}
DATA_TYPE = {"enum": ["uint8", "uint16", "int8", "int16", "uint32", "int32", "float32", "float64", "other"]}
COMMON_NAME = {
    "enum": [
        "coastal",
        "blue",
        "green",
        "red",
        "rededge",
        "yellow",
        "pan",
        "nir",
        "nir08",
        "nir09",
        "cirrus",
        "swir16",
        "swir22",
        "lwir",
        "lwir11",
        "lwir12",
        "rededge071",
        "rededge075",
        "rededge078",
        "green05",
    ]
}
EO_BANDS = {
    "type": "array",
    "minItems": 1,
    "items": {"type": "object", "minProperties": 1, "properties": {"name": TEXT, "common_name": COMMON_NAME}},
}
RASTER_BAND = {
    "type": "object",
    "minProperties": 1,
    "properties": {
        "data_type": DATA_TYPE,
        "nodata": NUMBER,
        "scale": NUMBER,
        "offset": NUMBER,
        "unit": TEXT,
        "bits_per_sample": {"type": "integer"},
        "spatial_resolution": NUMBER,
    },
}
CLASS = {
    "type": "object",
    "required": ["value", "name"],
    "properties": {
        "value": {"type": "integer"},
        "name": {"type": "string", "pattern": "^[0-9A-Za-z_-]+$"},
        "color_hint": {"type": "string", "pattern": "^[0-9A-Fa-f]{6}$"},
        "nodata": {"type": "boolean"},
    },
}
PROJ = {
    "proj:wkt2": {"type": ["string", "null"]},
    "proj:shape": {"type": "array", "minItems": 2, "maxItems": 2, "items": {"type": "integer"}},
    "proj:transform": {"type": "array", "items": NUMBER, "oneOf": [{"minItems": n, "maxItems": n} for n in (6, 9)]},
}
PROCESSING = {
    "processing:lineage": TEXT,
    "processing:level": {"type": "string", "pattern": "^(RAW|L[0-9][A-Z]?)$"},
    "processing:facility": TEXT,
    "processing:software": {"type": "object", "additionalProperties": TEXT},
}
VIEW = dict.fromkeys(("view:sun_azimuth", "view:sun_elevation", "view:off_nadir", "view:azimuth"), NUMBER)

FIELDS: dict[str, tuple[str, dict[str, Any]]] = {
    "projection/v1.1.0": ("proj:", {"proj:epsg": {"type": ["integer", "null"]}, **PROJ}),
    "projection/v2.0.0": ("proj:", {"proj:code": {"type": ["string", "null"], "pattern": "^[A-Z]+:[0-9]+$"}, **PROJ}),
    "eo/v1.1.0": ("eo:", {"eo:cloud_cover": PERCENT, "eo:snow_cover": PERCENT, "eo:bands": EO_BANDS}),
    "eo/v2.0.0": ("eo:", {"eo:cloud_cover": PERCENT, "eo:snow_cover": PERCENT, "eo:common_name": COMMON_NAME}),
    "raster/v1.1.0": ("raster:", {"raster:bands": {"type": "array", "minItems": 1, "items": RASTER_BAND}}),
    "raster/v2.0.0": (
        "raster:",
        {"raster:scale": NUMBER, "raster:offset": NUMBER, "raster:spatial_resolution": NUMBER},
    ),
    "file/v2.1.0": (
        "file:",
        {
            "file:checksum": {"type": "string", "pattern": "^1220[0-9a-f]{64}$"},
            "file:size": {"type": "integer", "minimum": 0},
        },
    ),
    "classification/v2.0.0": (
        "classification:",
        {"classification:classes": {"type": "array", "minItems": 1, "uniqueItems": True, "items": CLASS}},
    ),
    "processing/v1.1.0": ("processing:", PROCESSING),
    "version/v1.2.0": ("version", {"version": TEXT}),
    "view/v1.0.0": ("view:", VIEW),
    "grid/v1.0.0": ("grid:", {"grid:code": {"type": "string", "pattern": "^[A-Z0-9]+-[-_.A-Za-z0-9]+$"}}),
    "grid/v1.1.0": ("grid:", {"grid:code": {"type": "string", "pattern": "^[A-Z0-9]+-[-_.A-Za-z0-9]+$"}}),
    "mgrs/v1.0.0": (
        "mgrs:",
        {
            "mgrs:utm_zone": {"type": "integer", "minimum": 1, "maximum": 60},
            "mgrs:latitude_band": {"type": "string", "pattern": "^[C-HJ-NP-X]$"},
            "mgrs:grid_square": {"type": "string", "pattern": "^[A-HJ-NP-Z][A-HJ-NP-V]$"},
        },
    ),
}


def _schema(uri: str, prefix: str, fields: dict[str, Any]) -> dict[str, Any]:
    part = {
        "type": "object",
        "properties": fields,
        "patternProperties": {f"^(?!{prefix})": {}},
        "additionalProperties": False,
    }
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$id": uri,
        "type": "object",
        "required": ["stac_extensions"],
        "properties": {
            "stac_extensions": {"type": "array", "contains": {"const": uri}},
            "properties": part,
            "assets": {"type": "object", "additionalProperties": part},
        },
    }


def offline_validator() -> JsonSchemaSTACValidator:
    """pystac's validator with these rules in the place of the schemas on the network."""
    validator = JsonSchemaSTACValidator()
    for name, (prefix, fields) in FIELDS.items():
        uri = f"https://stac-extensions.github.io/{name}/schema.json"
        validator.schema_cache[uri] = _schema(uri, prefix, fields)
    return validator
