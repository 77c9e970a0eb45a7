"""Where the scenes and training pairs are: STAC catalogues (static and API), a user's own files, trees of patches. No pixels.

`search` and `open_sources` return `SceneItem`s, in which every provider's names, offsets and hrefs have become ours:
ESA's band names, what is still to be added to the DN, absolute paths or URLs that stay inside their catalogue. The
names below are imported when they are first used, so that `import catalogs` costs nothing. `search` itself is imported
from its module (`from catalogs.search import search`), which has the same name.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from catalogs.aoi import AreaOfInterest, parse_aoi
    from catalogs.bands import BANDS, Band, band_name
    from catalogs.dates import parse_dates
    from catalogs.documents import Problem
    from catalogs.errors import CatalogError, InvalidItem, InvalidQuery, SourceUnavailable
    from catalogs.files import open_sources
    from catalogs.item import BandAsset, SceneItem
    from catalogs.pairs import PairTable
    from catalogs.places import DatedImage, Found, Place, Reject, Window, find_places
    from catalogs.query import Query
    from catalogs.search import SearchResult
    from catalogs.sources import SourceRules, known_sources, signed
    from catalogs.splits import Splits, split_hash
    from catalogs.stac import resolve_item

_MODULES = {
    "aoi": ("AreaOfInterest", "parse_aoi"),
    "bands": ("BANDS", "Band", "band_name"),
    "dates": ("parse_dates",),
    "documents": ("Problem",),
    "errors": ("CatalogError", "InvalidItem", "InvalidQuery", "SourceUnavailable"),
    "files": ("open_sources",),
    "item": ("BandAsset", "SceneItem"),
    "pairs": ("PairTable",),
    "places": ("DatedImage", "Found", "Place", "Reject", "Window", "find_places"),
    "query": ("Query",),
    "search": ("SearchResult",),
    "sources": ("SourceRules", "known_sources", "signed"),
    "splits": ("Splits", "split_hash"),
    "stac": ("resolve_item",),
}

__all__ = [
    "BANDS",
    "AreaOfInterest",
    "Band",
    "BandAsset",
    "CatalogError",
    "DatedImage",
    "Found",
    "InvalidItem",
    "InvalidQuery",
    "PairTable",
    "Place",
    "Problem",
    "Query",
    "Reject",
    "SceneItem",
    "SearchResult",
    "SourceRules",
    "SourceUnavailable",
    "Splits",
    "Window",
    "band_name",
    "find_places",
    "known_sources",
    "open_sources",
    "parse_aoi",
    "parse_dates",
    "resolve_item",
    "signed",
    "split_hash",
]


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f"catalogs.{module}"), name)
    raise AttributeError(f"module 'catalogs' has no attribute {name!r}")
