"""What a folder of products holds, looked at without our own code: hashlib, json, rasterio and zarr."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import zarr

_CACHED = re.compile(r"(.*/)?\.cache/[0-9a-f]{40}\.json")
_RUN = re.compile(r"(.*/)?runs/[0-9TZ]+-[0-9]+\.jsonl?")


def whole_products(output: Path) -> dict[str, dict[str, str]]:
    """Product -> file -> sha256, of every product that a reader finds; fails where one of them is not whole.

    A folder without its item is no product: no reader finds it. Neither may the catalogue name one that is not there.
    """
    products = {}
    for folder in sorted(path for path in output.glob("*") if path.is_dir() and not path.name.startswith(".")):
        item = folder / f"{folder.name}.json"
        if item.is_file():
            products[folder.name] = _whole(folder, json.loads(item.read_text()))
    catalog = output / "catalog.json"
    if catalog.is_file():
        links = json.loads(catalog.read_text())["links"]
        named = {Path(link["href"]).stem for link in links if link["rel"] == "item"}
        assert named <= set(products), f"the catalogue names {sorted(named - set(products))}"
    return products


def _whole(folder: Path, item: dict[str, Any]) -> dict[str, str]:
    assert item["id"] == folder.name
    found = {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }
    listed = dict(line.split("  ", 1)[::-1] for line in (folder / "manifest.sha256").read_text().splitlines())
    own = {f"{folder.name}.json", "manifest.sha256"}
    assert listed == {name: digest for name, digest in found.items() if name not in own}, folder
    assert {"provenance", "cloudmask"} <= item["assets"].keys() or any(".zarr" in name for name in found)
    for key, asset in item["assets"].items():
        if "://" in asset["href"]:
            continue
        path = folder / asset["href"]
        assert path.exists(), f"{folder.name}: asset {key} is not there"
        if path.is_file():
            # Multihash: 0x12 is SHA-256, 0x20 its length.
            assert asset["file:checksum"] == "1220" + found[path.relative_to(folder).as_posix()]
            assert asset["file:size"] == path.stat().st_size
    for name in found:
        if name.endswith(".tif"):
            with rasterio.open(folder / name) as dataset:
                assert dataset.read().size
    for store in folder.glob("*.zarr"):
        for _, array in zarr.open_group(store, mode="r").members(max_depth=None):
            if isinstance(array, zarr.Array):
                assert np.asarray(array[...]).shape == array.shape
    return found


def pixels(products: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    """All but the items, which hold times."""
    return {name: {file: d for file, d in files.items() if file != f"{name}.json"} for name, files in products.items()}


def stray(output: Path, undisturbed: set[str]) -> set[str]:
    """Files and folders that an undisturbed run does not leave, and missing ones; journals, records and remembered checksums excepted."""
    return listed(output) ^ undisturbed


def listed(output: Path) -> set[str]:
    """Everything below an output but what every run names anew."""
    names = {path.relative_to(output).as_posix() for path in output.rglob("*")}
    return {name for name in names if not _CACHED.fullmatch(name) and not _RUN.fullmatch(name)}
