"""`ModelSpec`: everything that is needed to build a generator again, and what its users must know of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from srgan.errors import InvalidSpec

BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
"""The channels of the network, in order."""

GROUPS = {
    "VIS": ("B02", "B03", "B04"),
    "red edge": ("B05", "B06", "B07"),
    "NIR": ("B08", "B8A"),
    "SWIR": ("B11", "B12"),
}
"""The four band groups of the structure and gradient maps, in order."""

TYPICAL_LAND = (0.13, 0.11, 0.10, 0.10, 0.12, 0.18, 0.21, 0.20, 0.22, 0.09, 0.003, 0.20, 0.13)
"""Reflectance by band where nothing else is known."""


_LEVELS, _WIDTH, _DEPTH = 16, 4096, 64
"""Beyond any network that was ever trained: a card must not make a machine build what it has no memory for."""


class ModelSpec(BaseModel):
    """Architecture, bands and margin of a generator. Frozen; unknown names are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, description="Preset or name of the model")
    version: Literal[2] = Field(2, description="Version of the architecture: another one needs other code")
    bands: tuple[str, ...] = Field(BANDS, description="Channels, in order")
    widths: tuple[int, ...] = Field(description="Channels of each level, fine to coarse")
    depths: tuple[int, ...] = Field(description="Blocks of the encoder at each level, fine to coarse")
    guidance: Literal["none", "concat", "error_feedback"] = "error_feedback"
    max_references: int = Field(4, ge=0, le=64, description="More references than this were never tried")
    mean: tuple[float, ...] = Field(TYPICAL_LAND, description="Reflectance subtracted from each band at the input")
    scale: float = Field(0.15, gt=0, description="Reflectance that makes one unit at the input")
    margin: int = Field(
        64,
        ge=0,
        description="Pixels from a tile's edge beyond which what lies outside moves the result by < 1 DN on average",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.bands != BANDS:
            raise ValueError(f"bands must be {' '.join(BANDS)}, in this order, not {' '.join(self.bands)}")
        if len(self.widths) < 4 or len(self.widths) != len(self.depths):
            raise ValueError(f"{len(self.widths)} widths and {len(self.depths)} depths: as many of each, at least 4")
        if any(width < 4 or width % 4 for width in self.widths) or any(depth < 1 for depth in self.depths):
            raise ValueError(f"widths {self.widths} must be multiples of 4, depths {self.depths} at least 1")
        if len(self.widths) > _LEVELS or max(self.widths) > _WIDTH or max(self.depths) > _DEPTH:
            raise ValueError(
                f"widths {self.widths}, depths {self.depths}: at most {_LEVELS} levels, {_WIDTH} channels, {_DEPTH} blocks"
            )
        if len(self.mean) != len(self.bands):
            raise ValueError(f"{len(self.mean)} means for {len(self.bands)} bands")
        return self

    @property
    def levels(self) -> int:
        """Number of resolutions of the U-Net."""
        return len(self.widths)

    @property
    def multiple(self) -> int:
        """Height and width of a tile must be multiples of this, pixels; the first guess halves five times, whatever the levels."""
        return 1 << max(self.levels, 5)

    @property
    def grid(self) -> int:
        """Pixels of the coarsest cell: tiles that start on multiples of it agree where they overlap."""
        return 1 << (self.levels - 1)

    def require_bands(self, names: Iterable[str]) -> tuple[int, ...]:
        """Channel numbers of the bands called `names`. Raises InvalidSpec where the model does not know one.

        >>> ModelSpec.tiny().require_bands(["B02", "B8A"])
        (1, 8)
        """
        unknown = [name for name in names if name not in self.bands]
        if unknown:
            raise InvalidSpec(
                f"model {self.name!r} does not know {', '.join(unknown)}: its bands are {', '.join(self.bands)}"
            )
        return tuple(self.bands.index(name) for name in names)

    @classmethod
    def tiny(cls, guidance: Literal["none", "concat", "error_feedback"] = "error_feedback") -> ModelSpec:
        """About 1.3 million parameters, the size of the packaged default."""
        return cls(name="tiny", widths=(16, 32, 56, 96, 144, 192), depths=(1, 1, 1, 1, 1, 1), guidance=guidance)

    @classmethod
    def small(cls, guidance: Literal["none", "concat", "error_feedback"] = "error_feedback") -> ModelSpec:
        """About 6 million parameters."""
        return cls(name="small", widths=(24, 48, 96, 176, 272, 384), depths=(1, 1, 1, 2, 2, 2), guidance=guidance)

    @classmethod
    def base(cls, guidance: Literal["none", "concat", "error_feedback"] = "error_feedback") -> ModelSpec:
        """About 40 million parameters, for a GPU, the size of the paper."""
        return cls(name="base", widths=(64, 128, 224, 416, 640, 960), depths=(1, 2, 2, 3, 3, 3), guidance=guidance)


SIZES = {"tiny": ModelSpec.tiny, "small": ModelSpec.small, "base": ModelSpec.base}
"""Constructors of the named sizes."""
