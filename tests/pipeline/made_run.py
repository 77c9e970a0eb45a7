"""Products as a run leaves them, with pictures, shares and times, made without a run: for tests of the run report."""

from __future__ import annotations

import atexit
import functools
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

from catalogs.bands import BANDS
from catalogs.item import BandAsset, SceneItem
from pipeline.cog import CogSink
from pipeline.layers import Layer, cloudmask_layer, confidence_layer, provenance_layer
from pipeline.preview import Preview
from pipeline.product import ModelRecord, ProductRecord, ReferenceRecord
from pipeline.publish import publish
from pipeline.runentry import SceneLine
from pipeline.runpage import RunNotes
from pipeline.stac_item import build_item
from pipeline.survey import Survey
from pipeline.zarr_store import ZarrSink

FIRST = datetime(2023, 8, 10, 10, 8, 1, tzinfo=UTC)
HOSTILE = "<img src=x onerror=alert(1)></script><b>&amp;"
ORIGIN = (499980.0, 5100000.0)
RGB = ("B04", "B03", "B02")


def made_layers(seed: int = 0, size: int = 60, bands: tuple[str, ...] = ("B02", "B03", "B04", "B08")) -> dict[str, Any]:
    """A field of plants under a cloud: the left third observed, the middle restored, the right generated; a rim of nodata."""
    rng = np.random.default_rng(seed)
    pixels: dict[str, Any] = {
        name: (
            rng.integers(0, 30, (size, size)) + np.linspace(300, 900, size)[:, None] + (2500 if name == "B08" else 0)
        ).astype(np.uint16)
        for name in bands
    }
    provenance = np.repeat(np.array([1, 3, 4], np.uint8), size // 3)[None, :].repeat(size, 0)
    provenance[-2:] = 0
    cloudmask = np.where(provenance > 1, 3, provenance).astype(np.uint8)
    confidence = np.select([provenance == 0, provenance == 1, provenance == 3], [255, 100, 80], 20).astype(np.uint8)
    for band in bands:
        pixels[band][-2:] = 0
    return pixels | {"provenance": provenance, "cloudmask": cloudmask, "confidence": confidence}


def made_run_product(
    output: Path,
    scene: str = "S2B_33TWL_20230810_0_L2A",
    *,
    day: int = 0,
    format_: str = "cog",
    layers: dict[str, Any] | None = None,
    edit: Callable[[dict[str, Any]], None] | None = None,
    version: int = 0,
) -> Path:
    """Publish one product and return its folder. edit: changes the item on the disk afterwards, as a stranger would."""
    pixels = made_layers(day) if layers is None else layers
    made = _layers(pixels)
    bands = {name: BandAsset(name, BANDS[name].common_name, f"/x/{name}.tif") for name in pixels if name in BANDS}
    when = FIRST + timedelta(days=day)
    stac = {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": scene,
        "properties": {"grid:code": "MGRS-33TWL"},
        "assets": {},
    }
    key = hashlib.sha256(f"{scene} {version}".encode()).hexdigest()
    name = f"{scene}_{key[:10]}"
    build = output / ".staging" / name
    if layers is None:
        # Files of their own, with times of their own.
        shutil.copytree(_written(day, name, format_), build, copy_function=shutil.copyfile)
    else:
        _write(build, name, format_, pixels)
    record = ProductRecord(
        id=name,
        source=SceneItem(
            scene,
            when,
            bands,
            level="L2A",
            stac=stac,
            cloud_cover=61.5,
            left_out={"B01": "remote asset of a local item"},
        ),
        layers=tuple(made),
        format="zarr" if format_ == "zarr" else "cog",
        key=key,
        settings={"format": format_, "tile": 64, "overlap": 16, "references": 2, "tiles": 4, "tiles_restored": 3},
        model=ModelRecord("default", "b4b4c50bee6d" + "0" * 52),
        mask_method="scl",
        clouds={"clear": 1 / 3, "thin": 0.1, "thick": 0.5, "shadow": 1 / 15},
        provenance={
            "nodata": 1 / 30,
            "observed": 1 / 3,
            "blended": 0.0,
            "restored": 1 / 3,
            "generated": 1 / 3,
            "refused": 0.0,
        },
        seam_score=1.0625,
        confidence={"restored": 80.0, "generated": 20.0},
        references=(ReferenceRecord("S2A_33TWL_20230815_0_L2A", "x.json", 5.0, 0.875),),
        skipped={"S2A_33TWL_20230818_0_L2A": "cloudy where it is needed"},
        seconds={"mask": 1.0, "network": 18.25, "total": 24.5},
        limit="network",
        created=datetime(2024, 1, 1, tzinfo=UTC) + timedelta(days=version),
    )
    folder = publish(build, output, build_item(record))
    if edit is not None:
        path = folder / f"{name}.json"
        item = json.loads(path.read_text())
        edit(item)
        path.write_text(json.dumps(item))
    return folder


def _layers(pixels: dict[str, Any]) -> list[Layer]:
    size = pixels["provenance"].shape[0]
    ours = {"provenance": provenance_layer, "confidence": confidence_layer, "cloudmask": cloudmask_layer}
    made = []
    for name, array in pixels.items():
        metres = 10.0 * size / array.shape[0]
        grid = GeoBox(array.shape, Affine(metres, 0, ORIGIN[0], 0, -metres, ORIGIN[1]), "EPSG:32633")
        made.append(ours[name](grid) if name in ours else Layer(name, BANDS[name].common_name, grid, "uint16", 0))
    return made


def _write(build: Path, name: str, format_: str, pixels: dict[str, Any]) -> None:
    """Rasters and pictures of a product, not yet published."""
    made = _layers(pixels)
    sink = ZarrSink(build, name, made) if format_ == "zarr" else CogSink(build, made)
    for layer in made:
        sink.write(layer.name, 0, pixels[layer.name])
    sink.close()
    preview = Preview(pixels["provenance"].shape, nodata=0)
    after = [pixels.get(name, pixels["B04"]) for name in RGB]
    cloud = [np.where(pixels["cloudmask"] == 3, 9000, band).astype(np.uint16) for band in after]
    preview.add(0, cloud, after)
    preview.save(build)


@functools.cache
def _written(day: int, name: str, format_: str) -> Path:
    """What `_write` makes of `made_layers`, once a process: most tests ask for the same few products."""
    folder = Path(tempfile.mkdtemp(prefix="made_run-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    _write(folder / "build", name, format_, made_layers(day))
    return folder / "build"


def told(*lines: SceneLine, **more: Any) -> Callable[[Survey], RunNotes]:
    """What journals and records say of an output, for `write_run_page`."""
    notes = RunNotes(lines, **more)
    return lambda _: notes


def made_series(output: Path, days: tuple[int, ...] = (0, 3, 5), **options: Any) -> list[Path]:
    """A product for each day."""
    return [
        made_run_product(output, f"S2B_33TWL_{FIRST + timedelta(days=day):%Y%m%d}_0_L2A", day=day, **options)
        for day in days
    ]
