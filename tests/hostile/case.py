"""`Case`: one thing that somebody hostile, careless or unlucky hands to the command line, and what has to become of it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.flows.conftest import BANDS, QUICK, make_scene

AREA = ("--aoi", "14.9,45.9,15.1,46.1", "--dates", "2023-08-01/2023-08-31")
PLACE = {
    "type": "Polygon",
    "coordinates": [[[15.0, 45.95], [15.02, 45.95], [15.02, 46.06], [15.0, 46.06], [15.0, 45.95]]],
}
"""Where `made` scenes lie, roughly."""


@dataclass(frozen=True)
class Case:
    """Something bad, how it is offered, and what a user reads."""

    what: str
    """In words, for the table in docs/reliability.md."""
    build: Callable[[Path], Sequence[object]]
    """Writes it into an empty folder; the arguments of `decloud`."""
    said: str
    """What the message must hold."""
    status: int = 2
    """Exit status; 0 where the bad part is left out, and said, and the rest is done."""

    @property
    def id(self) -> str:
        """A name for pytest."""
        return re.sub(r"[^a-z0-9]+", "-", self.what.lower()).strip("-")[:70]


def run(folder: Path, *words: object) -> tuple[object, ...]:
    """`decloud run` to `folder`/out, small and without a network."""
    return ("run", *words, "--output", folder / "out", "--references", "0", *QUICK, "--json", "--quiet")


def files(folder: Path, **options: Any) -> list[Path]:
    """A made scene of four single-band files, and its mask `mask.tif`."""
    return [Path(path) for path in make_scene(folder, **options).files]


def masked(folder: Path, sources: Sequence[object]) -> tuple[object, ...]:
    """`run` of a made scene with its mask."""
    return run(folder, *sources, "--mask", folder / "mask.tif")


def item(folder: Path, assets: Mapping[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """A STAC item of a made scene whose files are written beside it; `assets` replace its own by key (None: leave out)."""
    names = [path.name for path in files(folder)]
    own = {band: {"href": f"./{name}", "roles": ["data"]} for band, name in zip(BANDS, names, strict=True)}
    document = {
        "type": "Feature", "stac_version": "1.0.0", "stac_extensions": [], "id": "S2B_33TWL_20230810_0_L2A",
        "geometry": PLACE, "bbox": [15.0, 45.95, 15.02, 46.06], "links": [],
        "properties": {"datetime": "2023-08-10T10:00:31Z", "platform": "sentinel-2b"},
        "assets": {key: value for key, value in (own | dict(assets or {})).items() if value is not None},
    }  # fmt: skip
    return document | changes


def written(folder: Path, document: object, name: str = "item.json") -> Path:
    """`document` as JSON; text and bytes as they are."""
    path = folder / name
    if isinstance(document, bytes):
        path.write_bytes(document)
    else:
        path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def catalogue(folder: Path, links: Sequence[Mapping[str, Any]], **changes: Any) -> tuple[object, ...]:
    """`run` of a static catalogue with these links."""
    document = {
        "type": "Catalog", "stac_version": "1.0.0", "id": "hostile", "description": "made for tests",
        "links": [{"rel": "root", "href": "./catalog.json"}, *links],
    }  # fmt: skip
    return run(
        folder, "--catalog", written(folder, document | changes, "catalog.json"), *AREA, "--mask", folder / "mask.tif"
    )


def asset(href: object) -> Callable[[Path], Sequence[object]]:
    """A lone item whose band B02 has this href."""

    def build(folder: Path) -> Sequence[object]:
        document = item(folder, {"B02": {"href": href}})
        return masked(folder, [written(folder, document), "--bands", "B02,B03"])

    return build


def changed(**changes: Any) -> Callable[[Path], Sequence[object]]:
    """A lone item with these members."""
    return lambda folder: masked(folder, [written(folder, item(folder, **changes))])


def noise(size: int, seed: int = 0) -> bytes:
    """Random bytes."""
    return np.random.default_rng(seed).bytes(size)
