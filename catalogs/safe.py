"""SAFE folders of Sentinel-2, L1C and L2A: JPEG 2000 files in a granule, described by XML.

Level, baseline, quantification and offsets are read from the product's metadata (`MTD_MSIL1C.xml`, `MTD_MSIL2A.xml`),
tile, time and sun from the granule's (`MTD_TL.xml`); each band is taken at its native pixel size where the product
has it. Format: "Sentinel-2 Products Specification Document", S2-PDGS-TAS-DI-PSD. Paths in the XML are not followed:
the files are looked up in the folder.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any, Literal
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException, EntitiesForbidden
from defusedxml.ElementTree import parse

from catalogs.bands import BANDS
from catalogs.errors import InvalidItem
from catalogs.geotiff import made_up_item, read_header
from catalogs.hrefs import require_inside
from catalogs.item import BandAsset, SceneItem
from catalogs.local import read_whole
from catalogs.names import band_in, common_id, tile_in
from catalogs.radiometry import HUGE

_METADATA: tuple[tuple[str, Literal["L1C", "L2A"]], ...] = (("MTD_MSIL2A.xml", "L2A"), ("MTD_MSIL1C.xml", "L1C"))
_GSD = re.compile(r"_(10|20|60)m$")


def safe_folder(path: str) -> Path | None:
    """The SAFE folder that `path` means: itself, the folder of its MTD file or manifest, the one SAFE folder in it; or None."""
    place = Path(path)
    if place.name in ("manifest.safe", *(name for name, _ in _METADATA)) and place.is_file():
        place = place.parent
    inner = sorted(place.glob("*.SAFE")) if place.is_dir() else []
    return next((folder for folder in (place, *(inner if len(inner) == 1 else [])) if is_safe(folder)), None)


def is_safe(folder: Path) -> bool:
    """Whether `folder` holds the metadata of an L1C or L2A product."""
    return any((folder / name).is_file() for name, _ in _METADATA)


def open_safe(folder: Path) -> SceneItem:
    """The scene in a SAFE folder; raises InvalidItem where metadata or files are missing, broken or contradictory."""
    path, level = next((folder / name, level) for name, level in _METADATA if (folder / name).is_file())
    product = _Xml(path)
    granules = sorted(place for place in (folder / "GRANULE").glob("*") if (place / "IMG_DATA").is_dir())
    if len(granules) != 1:
        raise InvalidItem(f"{folder}: holds {len(granules)} granules in GRANULE/*/IMG_DATA, exactly one is read")
    granule = _Xml(granules[0] / "MTD_TL.xml")
    files = _files(granules[0])
    scl = files.pop("SCL", None)
    if not files:
        raise InvalidItem(f"{folder}: no band found in {granules[0].name}/IMG_DATA")
    baseline = product.text("PROCESSING_BASELINE")
    radiometry = _radiometry(product, level, baseline)
    nodata = int(product.special("NODATA") or 0)
    assets = {
        name: BandAsset(name, name, str(files[name]), 1, *radiometry[name], nodata) for name in BANDS if name in files
    }
    headers = {name: (read_header(str(files[name])), 1) for name in assets}
    if scl:
        headers["SCL"] = (read_header(str(scl)), 1)
    tile = tile_in(granule.text("TILE_ID") or "") or tile_in(granules[0].name)
    zenith, azimuth = (
        granule.number("ZENITH_ANGLE", "Mean_Sun_Angle"),
        granule.number("AZIMUTH_ANGLE", "Mean_Sun_Angle"),
    )
    elevation = None if zenith is None else 90 - zenith
    moment = _moment(granule.text("SENSING_TIME") or product.text("PRODUCT_START_TIME"), path)
    cloud = product.number("Cloud_Coverage_Assessment")
    geometry = next(iter(headers.values()))[0].footprint()
    identifier = common_id([(product.text("PRODUCT_URI") or folder.name).removesuffix(".SAFE")], folder.name)
    platform = (product.text("SPACECRAFT_NAME") or "sentinel-2").lower()
    properties: dict[str, Any] = {
        "platform": platform,
        "constellation": "sentinel-2",
        "instruments": ["msi"],
        "grid:code": f"MGRS-{tile}" if tile else None,
        "eo:cloud_cover": cloud,
        "view:sun_azimuth": azimuth,
        "view:sun_elevation": elevation,
        "s2:product_type": f"S2MSI{level[1:]}",
        "s2:product_uri": product.text("PRODUCT_URI"),
        "s2:processing_baseline": baseline,
        "s2:generation_time": product.text("GENERATION_TIME"),
        "s2:datatake_id": product.attribute("Datatake", "datatakeIdentifier"),
    }
    stated = {key: value for key, value in properties.items() if value is not None}
    return SceneItem(
        id=identifier,
        datetime=moment,
        bands=assets,
        scl=BandAsset("SCL", "SCL", str(scl), 1, 1.0, 0.0, 0) if scl else None,
        level=level,
        tile=tile,
        baseline=baseline,
        cloud_cover=cloud,
        sun_azimuth=azimuth,
        sun_elevation=elevation,
        geometry=geometry,
        origin=str(folder),
        stac=made_up_item(identifier, moment, geometry, stated, headers, assets),
        left_out=_missing(product, files),
    )


class _Xml:
    """A metadata file; elements are found by their local names, for the namespaces differ between baselines."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            root = parse(BytesIO(read_whole(path))).getroot()
        except FileNotFoundError:
            raise InvalidItem(f"{path}: no such file: the SAFE folder is not complete") from None
        except EntitiesForbidden:
            raise InvalidItem(f"{path}: declares entities, which no SAFE product does: fetch it again") from None
        except (ParseError, DefusedXmlException, OSError, ValueError) as error:
            raise InvalidItem(f"{path}: cannot be read as XML: {error}: fetch it again") from None
        if root is None:
            raise InvalidItem(f"{path}: is empty")
        self._elements = [
            (element.tag.rpartition("}")[2], element) for element in root.iter() if isinstance(element.tag, str)
        ]

    def all(self, name: str) -> list[Element]:
        return [element for tag, element in self._elements if tag == name]

    def text(self, name: str, below: str | None = None) -> str | None:
        if below is not None:
            inner = (child for parent in self.all(below) for child in parent.iter())
            found = (child.text for child in inner if child.tag.rpartition("}")[2] == name)
        else:
            found = (element.text for element in self.all(name))
        return next((text.strip() for text in found if text and text.strip()), None)

    def number(self, name: str, below: str | None = None) -> float | None:
        text = self.text(name, below)
        try:
            return None if text is None else float(text)
        except ValueError:
            raise InvalidItem(f"{self.path}: {name} {text!r} is no number") from None

    def attribute(self, name: str, attribute: str) -> str | None:
        return next((element.get(attribute) for element in self.all(name)), None)

    def special(self, name: str) -> str | None:
        """Value of a special pixel such as NODATA."""
        for element in self.all("Special_Values"):
            values = {child.tag.rpartition("}")[2]: (child.text or "").strip() for child in element}
            if values.get("SPECIAL_VALUE_TEXT") == name and values.get("SPECIAL_VALUE_INDEX", "").isdecimal():
                return values["SPECIAL_VALUE_INDEX"]
        return None


def _radiometry(product: _Xml, level: str, baseline: str | None) -> dict[str, tuple[float, float]]:
    """Band -> (scale, offset in reflectance), from the quantification and the offset of each band id."""
    # Products of 2017 and 2018 have L2A_ before it.
    of_l2a = ("BOA_QUANTIFICATION_VALUE", "L2A_BOA_QUANTIFICATION_VALUE", "QUANTIFICATION_VALUE")
    names = of_l2a if level == "L2A" else ("QUANTIFICATION_VALUE",)
    quantification = next((value for name in names if (value := product.number(name)) is not None), None)
    if quantification is None:
        raise InvalidItem(f"{product.path}: states no {names[0]}: the metadata are not complete, fetch them again")
    if not 1 <= quantification < HUGE:
        raise InvalidItem(
            f"{product.path}: {names[0]} {quantification} is no number of DN per reflectance, expected 10000"
        )
    tag = "BOA_ADD_OFFSET" if level == "L2A" else "RADIO_ADD_OFFSET"
    by_id: dict[str, float] = {}
    for element in product.all(tag):
        try:
            offset = float(element.text or "")
        except ValueError:
            raise InvalidItem(f"{product.path}: {tag} {element.text!r} is no number") from None
        if not abs(offset) <= quantification:
            raise InvalidItem(f"{product.path}: {tag} {offset} is beyond a reflectance of 1, expected -1000")
        by_id[element.get("band_id", "")] = offset
    if not by_id and baseline is not None and "04.00" <= baseline < "99":
        raise InvalidItem(
            f"{product.path}: baseline {baseline} must state {tag}, and does not: the metadata are not complete"
        )
    # Band ids count the bands of the instrument from 0.
    offsets = {name: by_id.get(str(number), 0.0 if not by_id else None) for number, name in enumerate(BANDS)}
    # L2A has no B10; every other band of a product that states offsets must have one.
    absent = [name for name, offset in offsets.items() if offset is None and (level, name) != ("L2A", "B10")]
    if absent:
        raise InvalidItem(f"{product.path}: states no {tag} for {', '.join(absent)}")
    return {name: (1 / quantification, (offset or 0.0) / quantification) for name, offset in offsets.items()}


def _files(granule: Path) -> dict[str, Path]:
    """Band (or SCL) -> file: at the native pixel size where it is there, else the finest."""
    found: dict[str, list[tuple[int, int, Path]]] = {}
    for path in sorted((granule / "IMG_DATA").rglob("*.jp2")):
        match = _GSD.search(path.stem)
        name = band_in(path.stem)
        if name:
            require_inside(str(path), str(granule), str(granule.parents[1]))
            native = 20 if name == "SCL" else BANDS[name].gsd
            gsd = int(match[1]) if match else native
            found.setdefault(name, []).append((int(gsd != native), gsd, path))
    return {name: min(paths)[2] for name, paths in found.items()}


def _missing(product: _Xml, files: dict[str, Path]) -> dict[str, str]:
    """Bands that the product's list of files names and the folder does not hold."""
    stems = [element.text.strip().rpartition("/")[2] for element in product.all("IMAGE_FILE") if element.text]
    listed = {band_in(stem): stem for stem in stems}
    return {name: f"file not found: {listed[name]}.jp2" for name in BANDS if name in listed and name not in files}


def _moment(text: str | None, path: Path) -> datetime:
    try:
        moment = datetime.fromisoformat(text or "")
    except ValueError:
        raise InvalidItem(f"{path}: sensing time {text!r} is no time") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
