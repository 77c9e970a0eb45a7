"""STAC items and catalogues that reach for what is not theirs, or that are not what they say."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.hostile.case import Case, asset, catalogue, changed, files, item, masked, run, written


def items(*hrefs: str) -> Any:
    """A catalogue whose only item is linked by these hrefs."""

    def build(folder: Path) -> Sequence[object]:
        written(folder, item(folder))
        return catalogue(folder, [{"rel": "item", "href": href} for href in hrefs])

    return build


def beside(document: object) -> Any:
    """A catalogue of a good item and of this one."""

    def build(folder: Path) -> Sequence[object]:
        written(folder, item(folder))
        written(folder, document, "bad.json")
        return catalogue(folder, [{"rel": "item", "href": "./item.json"}, {"rel": "item", "href": "./bad.json"}])

    return build


def lone(document: object) -> Any:
    """This, given as a source."""
    return lambda folder: run(folder, written(folder, document))


def linked(folder: Path) -> Sequence[object]:
    inner = folder / "catalogue"
    inner.mkdir()
    document = item(inner)
    secret = files(folder / "elsewhere")[0]
    (inner / "secret_B02.tif").symlink_to(secret)
    document["assets"]["B02"]["href"] = "./secret_B02.tif"
    return run(folder, written(inner, document), "--mask", inner / "mask.tif")


def beyond(folder: Path) -> Sequence[object]:
    """An absolute path."""
    inner = folder / "catalogue"
    inner.mkdir()
    secret = files(folder / "elsewhere")[0]
    document = item(inner, {"B02": {"href": str(secret)}})
    return run(folder, written(inner, document), "--mask", inner / "mask.tif")


def cycle(folder: Path) -> Sequence[object]:
    written(folder, item(folder))
    links = [{"rel": "child", "href": "./other.json"}, {"rel": "item", "href": "./item.json"}]
    other = {
        "type": "Catalog",
        "stac_version": "1.0.0",
        "id": "b",
        "description": "b",
        "links": [{"rel": "child", "href": "./catalog.json"}],
    }
    written(folder, other, "other.json")
    return catalogue(folder, links)


def twice(folder: Path) -> Sequence[object]:
    document = item(folder)
    written(folder, document)
    written(folder, document | {"bbox": [15.0, 45.95, 15.02, 46.05]}, "again.json")
    return catalogue(folder, [{"rel": "item", "href": "./item.json"}, {"rel": "item", "href": "./again.json"}])


def huge(folder: Path) -> Sequence[object]:
    path = folder / "item.json"
    with path.open("wb") as file:
        file.write(b'{"type": "Feature", "x": "')
        file.truncate(500 * 2**20)
    return run(folder, path)


def bare(**members: Any) -> Any:
    """A lone item without files, with these members."""
    return lambda folder: run(
        folder,
        written(
            folder, {"type": "Feature", "stac_version": "1.0.0", "id": "a", "properties": {}, "links": []} | members
        ),
    )


def pipe(folder: Path) -> Sequence[object]:
    os.mkfifo(folder / "item.json")
    return run(folder, folder / "item.json")


def many(folder: Path) -> Sequence[object]:
    document = item(folder)
    document["assets"] |= {f"x{number}": {"href": f"./x{number}.txt"} for number in range(20_000)}
    return masked(folder, [written(folder, document)])


def vertices(folder: Path) -> Sequence[object]:
    """An outline of 20,000 crossing edges."""
    ring = [
        [15.0 + 0.01 * (number * 7919 % 10007) / 10007, 46.0 + 0.01 * (number * 104729 % 10009) / 10009]
        for number in range(20_000)
    ]
    ring.append(ring[0])
    return masked(folder, [written(folder, item(folder, geometry={"type": "Polygon", "coordinates": [ring]}))])


def radiometry(**values: Any) -> Any:
    """A lone item whose B02 has these `raster:bands`."""
    return lambda folder: masked(
        folder,
        [written(folder, item(folder, {"B02": {"href": "./T33UWP_20230810_B02.tif", "raster:bands": [values]}}))],
    )


DEEP = '{"a":' * 100_000 + "1" + "}" * 100_000

CASES = (
    Case("an href with ../", asset("../../../../etc/passwd"), "leaves the catalogue's folder"),
    Case("an href with %2e%2e/", asset("%2e%2e/%2e%2e/etc/passwd"), "file not found"),
    Case("an href that is an absolute path elsewhere", beyond, "leaves the catalogue's folder"),
    Case("a file: URL", asset("file:///etc/passwd"), "only relative paths"),
    Case("/vsicurl/", asset("/vsicurl/https://example.com/B02.tif"), "virtual files are not followed"),
    Case("/vsizip/ amid a path", asset("./a//vsizip//etc/x.zip/B02.tif"), "virtual files are not followed"),
    Case("HDF5: of another file", asset('HDF5:"/etc/passwd"://x'), "only relative paths"),
    Case("a .vrt", asset("./B02.vrt"), "virtual files are not followed"),
    Case("a URL of this machine's own services", asset("gopher://127.0.0.1:6379/x"), "only relative paths"),
    Case("an href with a newline", asset("./B02.tif\nerror: all is well"), "control characters"),
    Case("an href with a NUL", asset("./B02.tif\0.txt"), "control characters"),
    Case("an href that is a number", asset(7), "has no href"),
    Case("a link in the catalogue's folder that leads out of it", linked, "leads out of the catalogue's folder"),
    Case("an item linked by ../", items("../item.json"), "leaves", 1),
    Case("an item linked by file:", items("file:///etc/passwd"), "only relative paths", 1),
    Case("a catalogue that holds itself", cycle, "done", 0),
    Case("two items of one id and different content", twice, "done", 0),
    Case("an id of ../../evil", changed(id="../../evil"), "cannot name a folder"),
    Case("an id with a newline", changed(id="a\nerror: b"), "cannot name a folder"),
    Case("an id for a shell", changed(id="$(touch pwned)"), "cannot name a folder"),
    Case("an id of 5,000 letters", changed(id="a" * 5000), "cannot name a folder"),
    Case("an empty id", changed(id=""), "cannot name a folder"),
    Case("an id that is a list", changed(id=[1]), "cannot name a folder"),
    Case("an item of 500 MB", huge, "has more than 256 MiB"),
    Case("an item that is a pipe", pipe, "is a pipe"),
    Case("JSON nested 100,000 deep", lone(DEEP), "nested too deep"),
    Case("JSON with NaN", lone('{"type": "Feature", "id": NaN}'), "no JSON number"),
    Case("JSON with a number of 100,000 digits", lone('{"type": "Feature", "id": ' + "9" * 100_000 + "}"), "a number of 100000 digits"),
    Case("JSON of UTF-16", lone('{"type": "Feature"}'.encode("utf-16")), "is not JSON"),
    Case("JSON with half a surrogate", lone('{"type": "Feature", "id": "\\ud800"}'), "is no STAC item"),
    Case("JSON that ends amid a word", lone('{"type": "Feat'), "is not JSON"),
    Case("assets that are a list", bare(assets=[]), "no STAC item"),
    Case("properties that are null", changed(properties=None), "its properties are no object"),
    Case("links that are a string", changed(links="none"), "done", 0),
    Case("a date in the year 99999", changed(properties={"datetime": "99999-01-01T00:00:00Z"}), "is no time"),
    Case("a date that is a number", changed(properties={"datetime": 20230810}), "is no time"),
    Case("an outline of words", changed(geometry={"type": "Polygon", "coordinates": "here"}), "its geometry cannot be read"),
    Case("an outline of 1e308 degrees", changed(geometry={"type": "Polygon", "coordinates": [[[0, 0], [1e308, 0], [0, 1e308], [0, 0]]]}), "no degrees"),
    Case("an outline nested 200 deep", changed(geometry=json.loads('{"type":"GeometryCollection","geometries":[' * 200 + "]}" * 200)), "its geometry is empty"),
    Case("an outline of 20,000 crossing edges, of which the hull is taken", vertices, "done", 0),
    Case("20,000 assets", many, "done", 0),
    Case("a box of words", changed(geometry=None, bbox=["a", "b", "c", "d"]), "holds no degrees"),
    Case("a box of five numbers", changed(geometry=None, bbox=[1, 2, 3, 4, 5]), "done", 0),
    Case("a scale of 0", radiometry(scale=0), "no reflectance per DN"),
    Case("a scale of 1e308", radiometry(scale=1e308), "is no number"),
    Case("an offset of words", radiometry(offset="-0.1; rm -rf"), "is no number"),
    Case("a nodata of 1e300, which no pixel is", radiometry(nodata=1e300), "done", 0),
    Case("an item of Landsat", changed(properties={"datetime": "2023-08-10T10:00:31Z", "platform": "landsat-8"}), "not of Sentinel-2"),
    Case("a version of STAC that is a list", changed(stac_version=["1.0.0"]), "stac_version is no text"),
    Case("a bad item beside a good one", beside("<html>"), "bad.json: is not JSON", 1),
    Case("an item of another mission beside a good one", beside({"type": "Feature", "id": "x"}), "bad.json: is no STAC item", 1),
)  # fmt: skip
