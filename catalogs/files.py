"""`open_sources`: scenes from what a user has on disk: GeoTIFFs, single-band files, SAFE folders, STAC items."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence
from pathlib import Path

from catalogs.bands import band_name
from catalogs.documents import read_json, session
from catalogs.errors import InvalidItem, InvalidQuery
from catalogs.geotiff import Header, read_header, scene_of
from catalogs.hrefs import absolute, is_remote
from catalogs.item import SceneItem
from catalogs.local import require_regular
from catalogs.names import band_in
from catalogs.safe import is_safe, open_safe, safe_folder
from catalogs.stac import resolve_item

_RASTERS = (".tif", ".tiff", ".jp2", ".vrt", ".img")


def open_sources(paths: Sequence[str], bands: Sequence[str] | None = None) -> list[SceneItem]:
    """The scenes in `paths`, in the order given.

    A STAC item (`.json`, `.geojson`, or a URL), a SAFE folder and a raster of several bands are a scene each; all
    rasters of one band are ONE scene together (an SCL file among several-band ones joins the only one). Bands are
    known by their descriptions or, in single-band files, by the file name (`..._B02.tif`). `bands` selects among
    them; where a raster's bands have no names it names them all, in the order of the file (for several single-band
    files without names: in the order of the files).

    Raises InvalidItem for what is missing, unreadable, or not of one scene, InvalidQuery for a wrong `bands`.
    """
    if not paths:
        raise InvalidQuery("no source: give a GeoTIFF, single-band files, a SAFE folder or a STAC item")
    names = [band_name(name) for name in bands] if bands is not None else None
    if names is not None and (not names or len(set(names)) < len(names)):
        raise InvalidQuery(f"--bands {','.join(names) or '(empty)'} must name each band once")
    scenes: list[SceneItem | Header] = []
    singles: list[Header] = []
    for path in dict.fromkeys(map(absolute, paths)):
        opened = _open(path)
        if isinstance(opened, Header) and len(opened.descriptions) == 1:
            # The place of the first single-band file is that of their scene.
            if not singles:
                scenes.append(opened)
            singles.append(opened)
        else:
            scenes.append(opened)
    return _scenes(scenes, singles, names)


def _open(path: str) -> SceneItem | Header:
    remote = is_remote(path)
    name = path.partition("?")[0].lower()
    if (remote and not name.endswith(_RASTERS)) or name.endswith((".json", ".geojson")):
        with session() as io:
            document = read_json(path, io)
        if document.get("type") in ("Catalog", "Collection", "FeatureCollection"):
            raise InvalidItem(f"{path}: is a {document['type']}, not an item: name it with --catalog")
        return resolve_item(document, path)
    if remote:
        return read_header(path)
    if not os.path.exists(path):  # noqa: PTH110 - Path.exists raises for names that no file can have
        raise InvalidItem(f"{path}: no such file or folder")
    require_regular(path)
    folder = safe_folder(path)
    if folder:
        return open_safe(folder)
    if Path(path).is_dir():
        raise InvalidItem(
            f"{path}: is no SAFE folder (no MTD_MSIL1C.xml, no MTD_MSIL2A.xml): name files, or --catalog for a catalogue"
        )
    if zipfile.is_zipfile(path):
        raise InvalidItem(f"{path}: is a zip archive: unpack it and name the SAFE folder in it")
    return read_header(path)


def _scenes(opened: list[SceneItem | Header], singles: list[Header], names: list[str] | None) -> list[SceneItem]:
    stacks = [entry for entry in opened if isinstance(entry, Header) and entry not in singles]
    scl: tuple[Header, int] | None = None
    if len(stacks) == 1 and len(singles) == 1 and _name_of(singles[0]) == "SCL":
        scl = (singles[0], 1)
        opened = [entry for entry in opened if entry is not singles[0]]
    scenes = []
    for entry in opened:
        if isinstance(entry, SceneItem):
            scenes.append(entry if names is None else entry.require_bands(names))
        elif entry in singles:
            scenes.append(_from_singles(singles, names))
        else:
            scenes.append(_from_stack(entry, names, scl))
    return scenes


def _from_stack(header: Header, names: list[str] | None, scl: tuple[Header, int] | None) -> SceneItem:
    """A scene of one raster with several bands."""
    found = [band_in(text) for text in header.descriptions]
    if not any(found):
        if names is None or len(names) != len(found):
            given = "" if names is None else f", not {len(names)},"
            raise InvalidItem(
                f"{header.path}: its {len(found)} bands have no names: name all {len(found)}{given} with --bands in the file's order"
            )
        return scene_of({name: (header, index) for index, name in enumerate(names, 1)}, scl)
    bands: dict[str, tuple[Header, int]] = {}
    for index, name in enumerate(found, 1):
        if name in bands:
            raise InvalidItem(f"{header.path}: bands {bands[name][1]} and {index} are both called {name}")
        if name:
            bands[name] = (header, index)
    scene = scene_of(bands, bands.pop("SCL", None) or scl)
    return scene if names is None else scene.require_bands(names)


def _from_singles(headers: list[Header], names: list[str] | None) -> SceneItem:
    """One scene of several rasters with one band each."""
    folders = {_safe_above(header.path) for header in headers}
    if folders != {None}:
        return _from_safe_files(headers, folders, names)
    found = [_name_of(header) for header in headers]
    if not any(found) and names is not None and len(names) == len(headers):
        return scene_of({name: (header, 1) for name, header in zip(names, headers, strict=True)}, None)
    bands: dict[str, tuple[Header, int]] = {}
    for name, header in zip(found, headers, strict=True):
        if name is None:
            raise InvalidItem(
                f"{header.path}: neither its name nor its description tells the band: call it ..._B02.tif, "
                "or name the bands of all files with --bands"
            )
        if name in bands:
            raise InvalidItem(f"bands of different scenes: {bands[name][0].path} and {header.path} are both {name}")
        bands[name] = (header, 1)
    scl = bands.pop("SCL", None)
    if not bands:
        raise InvalidItem(f"{headers[0].path}: is a scene classification without a band: give the bands too")
    scene = scene_of(bands, scl)
    return scene if names is None else scene.require_bands(names)


def _safe_above(path: str) -> Path | None:
    """The SAFE folder in which the file at `path` lies."""
    if is_remote(path):
        return None
    return next(filter(is_safe, Path(path).parents), None)


def _from_safe_files(headers: list[Header], folders: set[Path | None], names: list[str] | None) -> SceneItem:
    """Some files of one SAFE folder: read with its metadata, without which their offset would be a guess."""
    if len(folders) > 1 or (folder := next(iter(folders))) is None:
        raise InvalidItem(f"bands of different scenes: {headers[0].path} and others lie in different SAFE folders")
    scene = open_safe(folder)
    own = {asset.href: name for name, asset in scene.bands.items()} | ({scene.scl.href: "SCL"} if scene.scl else {})
    for header in headers:
        if header.path not in own:
            raise InvalidItem(
                f"{header.path}: is not the file that is read for its band: give the folder {folder} and --bands"
            )
    given = [own[header.path] for header in headers if own[header.path] != "SCL"]
    return scene.require_bands(given if names is None else names)


def _name_of(header: Header) -> str | None:
    """Band of a single-band raster, from its file name or its description, which must not disagree."""
    by_name, by_text = band_in(header.stem), band_in(header.descriptions[0])
    if by_name and by_text and by_name != by_text:
        raise InvalidItem(f"{header.path}: is it {by_name}, as its name says, or {by_text}, as its description says?")
    return by_name or by_text
