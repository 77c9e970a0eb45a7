"""The STAC item of a product: its source's item, true again for the product's own files, with what was done to them.

Whoever reads the source's catalogue reads the product: asset keys, `eo:bands`, `raster:bands` and the style of the projection extension
(`proj:epsg` or `proj:code`) are the source's. Grid, type and nodata are those of the files. What the source said of its own files, or of
clouds that are gone, is left out.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from datetime import UTC
from typing import Any

from pipeline.hrefs import without_credentials
from pipeline.layers import Layer
from pipeline.preview import PREVIEW, THUMBNAIL
from pipeline.product import ProductRecord
from pipeline.zarr_store import group_names

_SCHEMA = "https://stac-extensions.github.io/{}/schema.json"
_PREFIXES = {"projection": "proj"}
_COG = "image/tiff; application=geotiff; profile=cloud-optimized"
_ZARR = "application/vnd+zarr; version=3"
# About the source's own making, its files, its place in its catalogue, or classes of pixels that are no longer there.
_STALE = re.compile(
    r"declouder:|proj:|file:|storage:|alternate|auth:|created$|updated$|published$|expires$|deprecated$|version$|title$|eo:cloud_cover$|eo:snow_cover$"
    r"|earthsearch:(s3_path|payload_id)|sentinel:|datastrip|checksum"
    r"|s2:(?!(degraded_msi_data|nodata_pixel|saturated_defective_pixel)_percentage$)\w+_percentage$"
)
_ASSET_KEPT = ("title", "description", "roles", "gsd", "eo:", "raster:", "bands", "classification:")
_MEASURED = ("data_type", "nodata", "statistics", "histogram")
_TITLES = {
    "provenance": "Where each pixel comes from",
    "cloudmask": "Cloud mask, grown, as it was used",
    "confidence": "How likely each pixel is right",
}


def build_item(record: ProductRecord) -> dict[str, Any]:
    """The item as a dictionary, links and hrefs relative to the product's folder; `publish` adds sizes and checksums."""
    source = copy.deepcopy(dict(record.source.stac))
    item: dict[str, Any] = {
        "type": "Feature",
        "stac_version": _version(source),
        "stac_extensions": [],
        "id": record.id,
        "geometry": source.get("geometry"),
        "bbox": source.get("bbox"),
        "properties": _properties(record, source.get("properties", {})),
        "links": _links(record, source.get("links", [])),
        "assets": _assets(record, source),
    }
    if item["geometry"] is None:
        item["geometry"], item["bbox"] = _footprint(record)
    item["stac_extensions"] = _extensions(item, source.get("stac_extensions", []))
    return item


def _version(source: Mapping[str, Any]) -> str:
    """The style of the source's fields: `bands` since 1.1, `eo:bands` and `raster:bands` before."""
    return "1.1.0" if str(source.get("stac_version", "")).startswith("1.1") else "1.0.0"


def _properties(record: ProductRecord, source: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in source.items() if not _STALE.match(name)}
    if not kept.get("datetime") and not kept.get("start_datetime"):
        kept["datetime"] = record.source.datetime.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if record.created is not None:
        kept["created"] = kept["updated"] = record.created.astimezone(UTC).isoformat().replace("+00:00", "Z")
    kept["eo:cloud_cover"] = _percent(min(record.provenance.get("refused", 0.0) + record.left_cloudy, 1.0))
    kept["version"] = record.key[:10]
    kept["processing:software"] = {**kept.get("processing:software", {}), "declouder": record.software}
    if record.source.level is not None:
        kept["processing:level"] = record.source.level
    dates = ", ".join(f"{reference.id} ({reference.days:+.0f} d)" for reference in record.references) or "no other date"
    where = " inside the area of interest" if record.settings.get("clip") else ""
    kept["processing:lineage"] = (
        f"Clouds and their shadows (mask: {record.mask_method}) in {record.source.id} were replaced{where} by the model {record.model.name} with"
        f" {dates}. All other pixels are those of the source, bit for bit; see the asset `provenance`."
    )
    kept |= _projection(record.layers, "proj:epsg" in source)
    kept |= {
        "declouder:model": {
            "name": record.model.name,
            "sha256": record.model.digest,
            **({"architecture": record.model.architecture} if record.model.architecture else {}),
            **record.model.details,
        },
        "declouder:source": record.source.id,
        "declouder:run_key": record.key,
        "declouder:settings": dict(record.settings),
        "declouder:mask_method": record.mask_method,
        "declouder:mask": {name: round(share, 6) for name, share in record.clouds.items()},
        "declouder:provenance": {name: round(share, 6) for name, share in record.provenance.items()},
        "declouder:references": [
            {
                "id": reference.id,
                "days": round(reference.days, 3),
                "share": round(reference.share, 4),
                "not_harmonised": list(reference.not_harmonised),
            }
            for reference in record.references
        ],
        # A list: in a table of many items, a field called by an id would be a column for each of them.
        "declouder:references_skipped": [{"id": name, "reason": reason} for name, reason in record.skipped.items()],
        "declouder:bands_left_out": dict(record.source.left_out),
        "declouder:seconds": {stage: round(value, 2) for stage, value in record.seconds.items()},
    }
    if record.limit:
        kept["declouder:limit"] = record.limit
    if record.recipe:
        kept["declouder:recipe"] = record.recipe
    if record.source.cloud_cover is not None:
        kept["declouder:source_cloud_cover"] = record.source.cloud_cover
    if record.precision:
        kept["declouder:precision"] = dict(record.precision)
    if record.confidence:
        kept["declouder:confidence"] = {name: round(mean, 2) for name, mean in record.confidence.items()}
    if record.seam_score is not None:
        kept["declouder:seam_score"] = round(record.seam_score, 4)
    return kept


def _projection(layers: tuple[Layer, ...], old_style: bool) -> dict[str, Any]:  # noqa: FBT001
    epsg = layers[0].geobox.crs.epsg if layers[0].geobox.crs is not None else None
    stated: dict[str, Any] = {"proj:epsg": epsg} if old_style else {"proj:code": f"EPSG:{epsg}" if epsg else None}
    if epsg is None and layers[0].geobox.crs is not None:
        stated["proj:wkt2"] = layers[0].geobox.crs.to_wkt()
    return stated


def _links(record: ProductRecord, source: list[dict[str, Any]]) -> list[dict[str, Any]]:
    catalog = {"href": "../catalog.json", "type": "application/json"}
    links: list[dict[str, Any]] = [{"rel": "root", **catalog}, {"rel": "parent", **catalog}]
    links.append(_derived_from(without_credentials(record.source.origin or record.source.id), record.source.id))
    links += [
        {**_derived_from(reference.href or reference.id, reference.id), "declouder:days": round(reference.days, 3)}
        for reference in record.references
    ]
    if record.predecessor is not None:
        href = f"../{record.predecessor}/{record.predecessor}.json"
        links.append(
            {"rel": "predecessor-version", "href": href, "type": "application/geo+json", "title": record.predecessor}
        )
    links += [link for link in source if link.get("rel") in ("license", "cite-as") and "://" in str(link.get("href"))]
    return links


def _derived_from(href: str, title: str) -> dict[str, Any]:
    kind = {"type": "application/geo+json"} if href.split("?")[0].endswith("json") or "/items/" in href else {}
    return {"rel": "derived_from", "href": href, **kind, "title": title}


def _assets(record: ProductRecord, source: Mapping[str, Any]) -> dict[str, Any]:
    keys = [layer.key for layer in record.layers]
    groups = group_names(record.layers) if record.format == "zarr" else {}
    assets: dict[str, Any] = {}
    for layer in record.layers:
        # A file of several bands is one asset of the source; each of its bands is a file, and so an asset, of the product.
        asset = _band(record, layer, source.get("assets", {}).get(layer.key, {})) | _grid(layer)
        if record.format == "zarr":
            asset |= {"href": f"./{record.id}.zarr/{groups[layer.name]}/{layer.name}", "type": _ZARR}
        else:
            asset |= {"href": f"./{layer.filename}", "type": _COG}
        assets[layer.key if keys.count(layer.key) == 1 else layer.name] = asset
        if record.format == "cog" and layer.categories:
            title = f"Category names of {layer.filename} for GDAL"
            href = f"./{layer.filename}.aux.xml"
            assets[f"{layer.name}-pam"] = {
                "href": href,
                "type": "application/xml",
                "title": title,
                "roles": ["metadata"],
            }
    if record.format == "zarr":
        title = "All layers, a group for each resolution"
        assets["zarr"] = {"href": f"./{record.id}.zarr", "type": _ZARR, "title": title, "roles": ["data"]}
    for key, name, role in (("preview", PREVIEW, "overview"), ("thumbnail", THUMBNAIL, "thumbnail")):
        assets[key] = {"href": f"./{name}", "type": "image/png", "title": "Before and after", "roles": [role]}
    return assets


def _grid(layer: Layer) -> dict[str, Any]:
    """Shape and transform as they stand in the file."""
    return {"proj:shape": list(layer.shape), "proj:transform": [float(value) for value in layer.geobox.transform[:6]]}


def _band(record: ProductRecord, layer: Layer, source: Mapping[str, Any]) -> dict[str, Any]:
    """What is said of the pixels of one layer: as in the source where it is one of the source's, corrected by the file's header."""
    asset = {name: value for name, value in source.items() if name.startswith(_ASSET_KEPT)}
    if not all({"name", "value"} <= set(entry) for entry in asset.get("classification:classes", [])):
        del asset["classification:classes"]  # of a version before the one that is declared
    band = record.source.bands.get(layer.name)
    index = band.index if band is not None else 1
    for name in ("eo:bands", "raster:bands", "bands"):
        if isinstance(asset.get(name), list) and len(asset[name]) > 1:
            asset[name] = asset[name][index - 1 : index] or asset[name][:1]
    asset.setdefault("title", _TITLES.get(layer.name, layer.name))
    if layer.description:
        asset.setdefault("description", layer.description)
    asset.setdefault("roles", ["data", "reflectance"] if band is not None else ["data", layer.name.lower()])
    pixels: dict[str, Any] = {"data_type": layer.dtype} | ({} if layer.nodata is None else {"nodata": layer.nodata})
    pixels |= {} if layer.unit is None else {"unit": layer.unit}
    if _version(record.source.stac) == "1.1.0":
        asset |= pixels
    else:
        kept = {name: value for name, value in (asset.get("raster:bands") or [{}])[0].items() if name not in _MEASURED}
        if layer.geobox.crs is not None and layer.geobox.crs.projected:
            kept["spatial_resolution"] = abs(float(layer.geobox.resolution.x))
        asset["raster:bands"] = [kept | pixels]
    if band is not None:
        # The encoding as this product was made with it: items of some catalogues state an offset that was applied before.
        asset["declouder:reflectance"] = {"scale": band.scale, "offset": band.offset}
    if layer.categories:
        asset["classification:classes"] = [_class(layer, value) for value in layer.categories]
    return asset


def _class(layer: Layer, value: int) -> dict[str, Any]:
    name = (layer.categories or {})[value]
    entry: dict[str, Any] = {"value": value, "name": name, "description": name}
    if value == layer.nodata:
        entry["nodata"] = True
    elif layer.colours and value in layer.colours:
        entry["color_hint"] = "{:02X}{:02X}{:02X}".format(*layer.colours[value][:3])
    return entry


def _extensions(item: Mapping[str, Any], source: list[str]) -> list[str]:
    """Extensions of the source whose fields are still there, and ours; one version of each."""
    old = item["stac_version"] == "1.0.0"
    assets = item["assets"].values()
    fields = {*item["properties"], *(name for asset in assets for name in asset)}
    fields |= {name for asset in assets for band in asset.get("bands", []) for name in band}
    prefixes = {name.split(":")[0] for name in fields if ":" in name}
    kept: dict[str, str] = {}
    for uri in source:
        name = (
            uri.removesuffix("/schema.json").split("/")[-2]
            if uri.startswith("https://stac-extensions.github.io/")
            else uri
        )
        if _PREFIXES.get(name, name) in prefixes:
            kept[name] = uri
    for wanted in ("file/v2.1.0", "classification/v2.0.0", "version/v1.2.0"):
        kept[wanted.split("/")[0]] = _SCHEMA.format(wanted)
    kept.setdefault("processing", _SCHEMA.format("processing/v1.1.0"))
    kept.setdefault("eo", _SCHEMA.format("eo/v1.1.0" if old else "eo/v2.0.0"))
    if "raster" in prefixes:
        kept.setdefault("raster", _SCHEMA.format("raster/v1.1.0" if old else "raster/v2.0.0"))
    if "proj:epsg" in item["properties"]:
        kept.setdefault("projection", _SCHEMA.format("projection/v1.1.0"))
    else:
        kept["projection"] = _SCHEMA.format("projection/v2.0.0")
    return sorted(kept.values())


def _footprint(record: ProductRecord) -> tuple[dict[str, Any], list[float]]:
    """Outline and box in longitude and latitude, for a source whose item has none: the source's own, or that of the finest grid."""
    import numpy as np
    import shapely
    from pyproj import Transformer

    outline = record.source.geometry
    if outline is None:
        geobox = record.layers[0].geobox
        degrees = Transformer.from_crs(str(geobox.crs), "EPSG:4326", always_xy=True)
        outline = shapely.transform(geobox.extent.geom, lambda points: np.column_stack(degrees.transform(*points.T)))
    return dict(shapely.geometry.mapping(outline)), list(outline.bounds)


def _percent(share: float) -> float:
    return round(100 * share, 4)
