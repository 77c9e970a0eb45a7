"""`DecloudSettings`: every parameter of a run that is not its input; part of the run key."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, field_validator, model_serializer

from pipeline.devices import is_device
from pipeline.errors import InvalidSettings
from pipeline.growth import GROW

BF16_OR_DASK = "--precision bf16: not with --dask, whose workers compute in fp32; use one of the two"
"""Why a precision and a cluster cannot be asked for together."""


class DecloudSettings(BaseModel):
    """Parameters of `decloud_scene`. Frozen, unknown names refused, so that it can be hashed into a run key.

    What cannot change a pixel (memory, workers, device) is not here but in `Resources`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    bands: tuple[str, ...] | None = Field(None, description="Bands to process, ESA names; all that are there if unset")
    format: Literal["cog", "zarr"] = Field("cog", description="COG files, or one Zarr v3 store a scene")
    checkpoint: str = Field("default", description="Path of a checkpoint or an export, `default`, or `identity`")
    mask: str = Field("auto", description="auto, scl, s2cloudless, csmask, or the path of a raster (non-zero = cloud)")
    grow: float = Field(GROW, ge=0, le=5000, description="Metres by which cloud and shadow are grown")
    feather: float = Field(
        50.0, ge=0, le=5000, description="Metres inside the grown mask over which the result fades in"
    )
    references: int = Field(2, ge=0, le=8, description="Other dates to restore from; 0 = none")
    window_days: int = Field(30, ge=1, le=366, description="Other dates at most this many days away")
    max_generated: float = Field(
        0.6,
        ge=0,
        le=1,
        description="A scene in which a larger share of the valid pixels would be made up without support is refused",
    )
    tile: int = Field(256, ge=64, le=2048, multiple_of=64, description="Tile edge, pixels of the finest grid")
    overlap: int | None = Field(
        None, ge=0, description="Overlap of neighbouring tiles, pixels; the checkpoint's margin if unset"
    )
    clip: bool = Field(default=False, description="Process only what lies inside the area of interest")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto",
        description="bf16: a trunk in bf16, where the scene's own tiles show that it stays within 2 DN of fp32 on 99.9 %; auto: fp32",
    )

    @model_serializer(mode="wrap")
    def _written(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """In fp32 as every product and series that was made before there was a choice: their keys and ids stay what they are."""
        written: dict[str, Any] = write(self)
        if self.precision != "bf16":
            written.pop("precision", None)
        return written

    @field_validator("bands")
    @classmethod
    def _known_bands(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        from catalogs.bands import BANDS, band_name

        if value is None:
            return None
        names = {band_name(text) for text in value}
        return tuple(name for name in BANDS if name in names)


_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def parse_bytes(text: str) -> int:
    """Number of bytes in `2GiB`, `500 MB` or `1.5GiB`.

    Raises InvalidSettings for anything else.

    >>> parse_bytes("1.5GiB")
    1610612736
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", text)
    if match is None or match[2].upper() not in _UNITS:
        raise InvalidSettings(f"--max-memory {text!r} is no size: write for example 2GiB or 1500MB")
    return int(float(match[1]) * _UNITS[match[2].upper()])


def is_cluster(text: str) -> bool:
    """Whether `text` can say where a network runs: empty, `local:N`, `tcp://host:port` or `tls://host:port`.

    >>> [is_cluster(text) for text in ("", "local:2", "tcp://10.0.0.7:8786", "local:0", "local", "10.0.0.7:8786")]
    [True, True, True, False, False, False]
    """
    return re.fullmatch(r"|local:[1-9]\d{0,3}|(tcp|tls)://(\[[0-9a-fA-F:.]+\]|[\w.-]+):\d{1,5}", text) is not None


@dataclass(frozen=True)
class Resources:
    """What a run may use. None of it changes a pixel of the product."""

    max_memory: int = 2 * 2**30
    """Bytes that the process, and those of `local:N` with it, may hold resident, libraries included; blocks are sized by it."""
    workers: int = 0
    """Tiles computed side by side on a CPU; 0 = the cores that this process may use."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:N`, or several GPUs: `cuda:0,cuda:1`."""
    block: int | None = None
    """Edge of a block in pixels of the work grid; planned from `max_memory` where None."""
    dask: str = ""
    """Where the network runs: empty = in this process; `local:N` = in N processes on this machine; `tcp://host:port` = on the
    workers of a `distributed` scheduler."""

    def __post_init__(self) -> None:
        if self.max_memory < 2**29:
            raise InvalidSettings(f"max memory {self.max_memory} bytes is too small: the libraries alone need 512MiB")
        if self.workers < 0:
            raise InvalidSettings(f"workers {self.workers} must not be negative")
        if not is_device(self.device):
            raise InvalidSettings(
                f"--device {self.device!r}: use auto, cpu, cuda, cuda:N or several GPUs, cuda:0,cuda:1"
            )
        if self.dask and "," in self.device:
            raise InvalidSettings(
                f"--device {self.device} with --dask: a worker uses one GPU; give --device cuda, and a worker for each"
            )
        if not is_cluster(self.dask):
            raise InvalidSettings(
                f"--dask {self.dask!r}: use local:N for N processes on this machine, or a scheduler's tcp://host:port"
            )

    @property
    def processes(self) -> int:
        """Worker processes on this machine beside this one."""
        return int(self.dask.removeprefix("local:")) if self.dask.startswith("local:") else 0

    @property
    def threads(self) -> int:
        """Worker threads, at least 1."""
        return self.workers or len(os.sched_getaffinity(0))
