"""Networks, tables, settings, areas and dates."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from srgan.archive import RECORD, ExportRecord
from srgan.checkpoint import PACKAGED
from srgan.spec import ModelSpec
from tests.hostile.case import AREA, Case, files, item, run, written


class Evil:
    """A pickle that leaves a file behind where it is read."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch pwned",)


def checkpoint(name: str, content: bytes, card: object = None) -> Any:
    """A run with this network."""

    def build(folder: Path) -> Sequence[object]:
        paths = files(folder)
        (folder / name).write_bytes(content)
        if card is not None:
            written(folder, card, f"{Path(name).stem}.json")
        return ("run", *paths, "--mask", folder / "mask.tif", "--output", folder / "out", "--references", "0",
                "--checkpoint", folder / name, "--json", "--quiet")  # fmt: skip

    return build


def signed(name: str, content: bytes) -> Any:
    """A run with these bytes as a network, whose card is right in all but the network."""
    document = json.loads((PACKAGED / "default.json").read_text()) | {"sha256": hashlib.sha256(content).hexdigest()}
    return checkpoint(name, content, document)


def card(**spec: Any) -> Any:
    """The packaged network's weights with a card that claims another network."""

    def build(folder: Path) -> Sequence[object]:
        document = json.loads((PACKAGED / "default.json").read_text())
        document["spec"] |= spec
        return checkpoint("net.safetensors", (PACKAGED / "default.safetensors").read_bytes(), document)(folder)

    return build


def bomb() -> bytes:
    """An export of 250 kB, its record in order, that unpacks to 256 MB."""
    spec = ModelSpec.model_validate(json.loads((PACKAGED / "default.json").read_text())["spec"])
    record = ExportRecord(format="pt2", name="net", spec=spec, weights="0" * 64, tile=256, references=0, batch=1)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(4):
            archive.writestr(f"net/data/weights/weight_{number}", b"\0" * 2**26)
        archive.writestr(f"net/extra/{RECORD}", record.text())
    return buffer.getvalue()


def area(content: bytes | str, name: str = "area.geojson") -> Any:
    """A run in the area of this file."""

    def build(folder: Path) -> Sequence[object]:
        written(folder, item(folder))
        path = written(folder, content, name)
        catalog = {
            "type": "Catalog",
            "stac_version": "1.0.0",
            "id": "a",
            "description": "a",
            "links": [{"rel": "item", "href": "./item.json"}],
        }
        return run(folder, "--catalog", written(folder, catalog, "catalog.json"), "--aoi", path, *AREA[2:])

    return build


def query(**words: str) -> Any:
    """A run with this area or these dates."""

    def build(folder: Path) -> Sequence[object]:
        asked = {"--aoi": AREA[1], "--dates": AREA[3]} | {f"--{name}": value for name, value in words.items()}
        catalog = {"type": "Catalog", "stac_version": "1.0.0", "id": "a", "description": "a", "links": []}
        return run(
            folder, "--catalog", written(folder, catalog, "catalog.json"), *(w for pair in asked.items() for w in pair)
        )

    return build


def train(
    content: bytes | Callable[[Path], bytes],
    *words: str,
    name: str = "pairs.parquet",
    more: tuple[str, object] | None = None,
) -> Any:
    """A training on this table."""

    def build(folder: Path) -> Sequence[object]:
        path = folder / name
        path.write_bytes(content(folder) if callable(content) else content)
        if more is not None:
            written(folder, more[1], more[0])
        return ("train", path, "--output", folder / "training", *(word.replace("FOLDER", str(folder)) for word in words),
                "--set", "losses.perceptual=0", "--set", "losses.style=0", "--export", "none", "--quiet", "--json")  # fmt: skip

    return build


def table(columns: dict[str, list[Any]]) -> bytes:
    buffer = io.BytesIO()
    pd.DataFrame(columns).to_parquet(buffer)
    return buffer.getvalue()


ALIASES = (
    "[&a [x, x, x, x, x, x, x, x, x, x], "
    + ", ".join(f"&{chr(98 + number)} [{', '.join([f'*{chr(97 + number)}'] * 10)}]" for number in range(12))
    + "]"
)
OGR = '<OGRVRTDataSource><OGRVRTLayer name="x"><SrcDataSource>/etc/passwd</SrcDataSource></OGRVRTLayer></OGRVRTDataSource>'
RING = [[15.0, 45.9], [float("nan"), 46.0], [15.2, 46.1], [15.0, 45.9]]

CASES = (
    Case("a pickle as checkpoint", checkpoint("net.pt", pickle.dumps(Evil())), "a pickle can run any code"),
    Case("a pickle called .safetensors", signed("net.safetensors", pickle.dumps(Evil())), "a pickle can run any code", 1),
    Case("a safetensors header of 2^60 bytes", signed("net.safetensors", struct.pack("<Q", 2**60) + b"{}"), "no readable safetensors file", 1),
    Case("a checkpoint without its card", checkpoint("net.safetensors", b"x"), "cannot be read"),
    Case("a card that claims ten million channels", card(widths=[10**7] * 6), "at most 16 levels"),
    Case("a card that claims 4,096 channels at each level of a small network", card(widths=[4096] * 6), "its spec asks for", 1),
    Case("a card whose name of a band is a path", card(bands=["../../B02"]), "made for the bands"),
    Case("an archive of 250 kB that unpacks to 256 MB, as .pt2", lambda folder: checkpoint("net.pt2", bomb())(folder), "unpack to far more", 1),
    Case("noise as TorchScript", checkpoint("net.ts", b"\x80\x05noise"), "no zip archive"),
    Case("an area that makes GDAL read another file", area(OGR), "is a virtual layer"),
    Case("an area that is a virtual layer", area(OGR, "area.vrt"), "is a virtual layer"),
    Case("an area of NaN", area(json.dumps({"type": "Polygon", "coordinates": [RING]})), "no finite numbers"),
    Case("an area of text", area("here and there"), "cannot be read"),
    Case("an area of nothing", area('{"type": "FeatureCollection", "features": []}'), "holds no geometry"),
    Case("an area nested 100,000 deep", area('{"type":"GeometryCollection","geometries":[' * 100_000), "cannot be read"),
    Case("an area behind a URL", query(aoi="/vsicurl/https://example.com/area.geojson"), "neither a box"),
    Case("a box of infinities", query(aoi="-inf,-inf,inf,inf"), "neither a box"),
    Case("a box of 1e999 degrees", query(aoi="0,0,1e999,1"), "four numbers"),
    Case("a name of an area with a newline", query(aoi="a\nb"), "neither a box"),
    Case("30 February", query(dates="2023-02-30"), "is no date"),
    Case("dates in the year 0", query(dates="0000-01-01/.."), "is no date"),
    Case("P99999999999D", query(dates="P99999999999D"), "at most 3660"),
    Case("last 99999999999 days", query(dates="last 99999999999 days"), "at most 3660"),
    Case("dates of full-width digits", query(dates="２０２３-08-01"), "is no date"),  # noqa: RUF001
    Case("a pickle as a table of pairs", train(pickle.dumps(Evil())), "is no GeoParquet file"),
    Case("a table without the columns", train(table({"a": [1]})), "no pair table"),
    Case("YAML that calls a function", train(b"", "--preset", "FOLDER/p.yaml", more=("p.yaml", "!!python/object/apply:os.system ['touch pwned']")), "no readable YAML file"),
    Case("YAML whose aliases grow tenfold twelve times, as a preset", train(b"", "--preset", "FOLDER/p.yaml", more=("p.yaml", f"epochs: {ALIASES}")), "epochs: Input should be"),
    Case("YAML whose aliases grow tenfold twelve times, as splits", train(b"", "--splits", "FOLDER/s.yaml", more=("s.yaml", f"ROIs1158_spring_1: {ALIASES}")), "no group and its split"),
    Case("YAML nested 10,000 deep", train(b"", "--preset", "FOLDER/p.yaml", more=("p.yaml", "[" * 10_000)), "no readable YAML file"),
    Case("a setting of a billion channels", train(b"", "--set", "widths=[1000000000,4,4,4,4,4]"), "at most 16 levels"),
)  # fmt: skip
