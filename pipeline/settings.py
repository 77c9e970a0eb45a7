"""`DecloudSettings`: every parameter of a run that is not its input; part of the run key."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator


class DecloudSettings(BaseModel):
    """Parameters of `decloud_scene`. Frozen, unknown names refused, so that it can be hashed into a run key."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bands: tuple[str, ...] | None = Field(None, description="Bands to process, ESA names; all that are there if unset")
    format: Literal["cog", "zarr"] = Field("cog", description="COG files, or one Zarr v3 store a scene")
    checkpoint: str = Field("default", description="Path of a checkpoint, `default`, or `identity`")
    mask: str = Field("auto", description="auto, scl, s2cloudless, csmask, or the path of a raster (non-zero = cloud)")
    grow: float = Field(150.0, ge=0, le=5000, description="Metres by which cloud and shadow are grown")
    feather: float = Field(80.0, ge=0, le=5000, description="Metres inside the grown mask over which the result fades in")
    references: int = Field(2, ge=0, le=8, description="Other dates to restore from; 0 = none")
    window_days: int = Field(30, ge=1, le=366, description="Other dates at most this many days away")
    max_generated: float = Field(
        0.6, ge=0, le=1, description="A scene in which a larger share of the valid pixels would be made up without support is refused"
    )
    tile: int = Field(256, ge=64, le=2048, multiple_of=64, description="Tile edge, pixels of the finest grid")
    overlap: int | None = Field(None, ge=0, description="Overlap of neighbouring tiles, pixels; the checkpoint's margin if unset")
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto, cpu, cuda or cuda:N")
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="auto: fp32, the reference")
    clip: bool = Field(False, description="Process only what lies inside the area of interest")

    @field_validator("bands")
    @classmethod
    def _known_bands(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        from catalogs.bands import BANDS, band_name

        if value is None:
            return None
        names = {band_name(text) for text in value}
        return tuple(name for name in BANDS if name in names)
