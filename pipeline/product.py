"""`Product`: what a run leaves behind; `ProductRecord`: everything that its STAC item says."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from catalogs.item import SceneItem
from pipeline.errors import InvalidScene, WriteFailed
from pipeline.layers import PROVENANCE, Layer


def software_version() -> str:
    """Version of the installed declouder."""
    return metadata.version("declouder")


def require_known(version: str, product: str) -> None:
    """Raise InvalidScene, which names `product`, where it was made by a declouder whose products this one does not know.

    Later minor versions read what earlier ones wrote; of a later major one nothing is known.
    """
    ours = software_version()
    with suppress(ValueError):
        if int(version.split(".")[0]) <= int(ours.split(".")[0]):
            return
    raise InvalidScene(f"{product}: made by declouder {version}, this is {ours}: update declouder")


@dataclass(frozen=True)
class Product:
    """One published product."""

    id: str
    """Id of the item, name of the folder."""
    folder: Path
    item: Mapping[str, Any] = field(repr=False)
    """The STAC item."""
    unchanged: bool = False
    """True where an earlier run had made it, and this one did nothing."""

    @property
    def path(self) -> Path:
        """The item's file."""
        return self.folder / f"{self.id}.json"

    @property
    def provenance(self) -> Mapping[str, float]:
        """Class name -> share of the pixels that are not nodata, 0..1; `nodata` -> share of all pixels."""
        shares: Mapping[str, float] = self.item["properties"].get("declouder:provenance", {})
        return shares


@dataclass(frozen=True)
class ReferenceRecord:
    """Another date from which pixels were restored."""

    id: str
    href: str
    """Path or URL of its item or file."""
    days: float
    """Its date minus that of the scene."""
    share: float = 1.0
    """Share of the scene's cloudy pixels that are clear in it, 0..1."""
    not_harmonised: tuple[str, ...] = ()
    """Bands in which too few pixels were clear in both to bring it to the scene's level."""


@dataclass(frozen=True)
class ModelRecord:
    """The network that was used."""

    name: str
    """`default`, `identity`, or the stem of the checkpoint's file."""
    digest: str
    """sha256 of weights and card, 64 hexadecimal digits; `identity` without a network."""
    architecture: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
    """More of the model card, JSON types only."""


@dataclass(frozen=True)
class ProductRecord:
    """What the item of a product says beyond what its source item said. JSON types in all mappings."""

    id: str
    source: SceneItem
    layers: tuple[Layer, ...]
    """Everything that was written, bands first; the keys of bands are those of the source's assets."""
    format: Literal["cog", "zarr"]
    key: str
    """Run key, 64 hexadecimal digits."""
    settings: Mapping[str, Any]
    model: ModelRecord
    mask_method: str
    clouds: Mapping[str, float]
    """Class of the cloud mask -> share of the pixels that are not nodata, 0..1."""
    provenance: Mapping[str, float]
    """Class of provenance -> share of the pixels that are not nodata, 0..1; `nodata` -> share of all pixels."""
    left_cloudy: float = 0.0
    """Share of the pixels that are not nodata which are cloudy and were left so on request, 0..1."""
    seam_score: float | None = None
    confidence: Mapping[str, float] = field(default_factory=dict)
    """Class of provenance -> mean confidence of its pixels, percent; classes that were replaced and have pixels."""
    references: tuple[ReferenceRecord, ...] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)
    """Dates that could not serve as references -> why."""
    precision: Mapping[str, Any] = field(default_factory=dict)
    """How far bf16 was from fp32, where it was asked for; see `pipeline.precision`."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Stage -> seconds that it was busy; stages overlap. `total`: wall time of the scene."""
    limit: str = ""
    """The stage that took the largest share of the wall time; empty where nobody measured it."""
    recipe: str = ""
    """The run key without the other dates, 64 hexadecimal digits."""
    predecessor: str | None = None
    """Id of the product of the same scene in the same output that this one follows."""
    created: datetime | None = None
    """When the product was made, timezone aware."""
    software: str = field(default_factory=software_version)

    def __post_init__(self) -> None:
        unknown = sorted(set(self.provenance) - set(PROVENANCE.values()))
        if unknown:
            raise WriteFailed(f"product {self.id}: unknown provenance {unknown}, not in {list(PROVENANCE.values())}")
        bad = {name: share for name, share in {**self.clouds, **self.provenance}.items() if not 0 <= share <= 1}
        if bad:
            raise WriteFailed(f"product {self.id}: shares {bad} must be 0..1")
        odd = {
            name: mean for name, mean in self.confidence.items() if not 0 <= mean <= 100 or name not in self.provenance
        }
        if odd:
            raise WriteFailed(f"product {self.id}: mean confidence {odd} must be 0..100 of a class of provenance")
        if self.created is not None and self.created.tzinfo is None:
            raise WriteFailed(f"product {self.id}: time {self.created} has no time zone")
        names = [layer.name for layer in self.layers]
        if len(set(names)) != len(names) or not names:
            raise WriteFailed(f"product {self.id}: layers {names} must be there once each")
