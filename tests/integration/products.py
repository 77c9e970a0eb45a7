"""What a folder of products holds, looked at with other tools than those that made it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path


def complete(output: Path) -> dict[str, dict[str, str]]:
    """Product -> file -> sha256 of what is there, of every product that has its item, each checked against its manifest.

    Fails where a product is half there: an item without its files, a file that is not what the manifest says, a
    catalogue that names what is not there.
    """
    products: dict[str, dict[str, str]] = {}
    for folder in sorted(path for path in output.glob("*") if path.is_dir() and not path.name.startswith(".")):
        item = folder / f"{folder.name}.json"
        if not item.is_file():
            # Whatever lies here is no product: no reader finds it, and the next run replaces it.
            continue
        document = json.loads(item.read_text())
        listed = dict(line.split("  ", 1)[::-1] for line in (folder / "manifest.sha256").read_text().splitlines())
        assert listed, folder
        found = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in listed}
        assert found == listed, f"{folder}: files differ from the manifest"
        for key, asset in document["assets"].items():
            if "://" not in asset["href"]:
                assert (folder / asset["href"]).exists(), f"{folder}: asset {key} is not there"
        products[folder.name] = found
    catalog = output / "catalog.json"
    if catalog.is_file():
        links = json.loads(catalog.read_text())["links"]
        named = {Path(link["href"]).stem for link in links if link["rel"] == "item"}
        assert named <= set(products), f"{catalog} names {sorted(named - set(products))}, which are not there"
    return products


def pixels(products: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    """The same without what may differ between two runs that made the same pixels: times in text files."""
    return {
        name: {file: digest for file, digest in files.items() if file.endswith((".tif", ".png"))}
        for name, files in products.items()
    }
