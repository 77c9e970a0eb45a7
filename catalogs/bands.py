"""The thirteen bands of the Sentinel-2 MSI and the names that files and catalogues give them.

Wavelengths are the central wavelengths of Sentinel-2A, "Sentinel-2 User Handbook", ESA, table 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

from catalogs.errors import InvalidQuery


@dataclass(frozen=True)
class Band:
    """One spectral band."""

    name: str
    """ESA's name with two digits: `B02`, `B8A`."""
    common_name: str
    """Name of the band in Earth Search v1, unique for each band: `blue`, `rededge1`, `nir08`."""
    gsd: int
    """Native ground sampling distance, metres: 10, 20 or 60."""
    wavelength: float
    """Central wavelength, micrometres."""


BANDS: MappingProxyType[str, Band] = MappingProxyType(
    {
        band.name: band
        for band in (
            Band("B01", "coastal", 60, 0.443),
            Band("B02", "blue", 10, 0.490),
            Band("B03", "green", 10, 0.560),
            Band("B04", "red", 10, 0.665),
            Band("B05", "rededge1", 20, 0.705),
            Band("B06", "rededge2", 20, 0.740),
            Band("B07", "rededge3", 20, 0.783),
            Band("B08", "nir", 10, 0.842),
            Band("B8A", "nir08", 20, 0.865),
            Band("B09", "nir09", 60, 0.945),
            Band("B10", "cirrus", 60, 1.375),
            Band("B11", "swir16", 20, 1.610),
            Band("B12", "swir22", 20, 2.190),
        )
    }
)
"""All bands by name, in the order of the instrument (the order of the network's channels)."""

_ALIASES = MappingProxyType(
    {alias.lower(): band.name for band in BANDS.values() for alias in (band.name, band.common_name)}
    | {f"b{int(name[1:])}": name for name in BANDS if name[1:].isdigit()}
    | {"b8a": "B8A", "b08a": "B8A"}
    # The common names of STAC's eo extension 2.0, where they differ from Earth Search's.
    | {"rededge071": "B05", "rededge075": "B06", "rededge078": "B07"}
)


def band_name(text: str) -> str:
    """ESA's name of the band called `text` (any case; `B2`, `b02`, `blue`).

    Raises InvalidQuery for a name that is no band.

    >>> band_name("b2"), band_name("nir08"), band_name("B8A")
    ('B02', 'B8A', 'B8A')
    """
    found = find_band(text)
    if found is None:
        raise InvalidQuery(f"{text!r} is no Sentinel-2 band: use names such as {', '.join(BANDS)}")
    return found


def find_band(text: str) -> str | None:
    """ESA's name of the band called `text`, or None where it is no band.

    >>> find_band("swir22"), find_band("SCL")
    ('B12', None)
    """
    return _ALIASES.get(text.strip().lower())
