"""`AreaRequest` and `SceneRequest`: everything that a run was asked for.

The command line, the flows' parameters and the record of a run beside its journal are one and the same model, so that
a run can be repeated from its record and a deployment takes what the command line takes.
"""

from __future__ import annotations

import os
import re
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from catalogs.hrefs import absolute, is_remote
from catalogs.sources import known_sources
from flows.lookback import absolute_dates
from pipeline.address import address, output_path
from pipeline.errors import InvalidSettings
from pipeline.hrefs import without_credentials
from pipeline.settings import BF16_OR_DASK, DecloudSettings, Resources, parse_bytes

if TYPE_CHECKING:
    from pipeline.refresh import Redo

_NAMED_CHECKPOINTS = ("default", "identity")
NAMED_MASKS = ("auto", "scl", "s2cloudless", "csmask")


def known_device(name: str) -> str:
    """`name`, which may name a device. Raises ValueError for one that cannot; whether it is there is seen later."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
        raise ValueError("give auto, cpu, cuda or cuda:N")
    return name


DeviceName = Annotated[str, AfterValidator(known_device)]
"""A device as on the command line."""


OutputPath = Annotated[Path, BeforeValidator(output_path), PlainSerializer(address, return_type=str, when_used="json")]
"""Where products go: a folder, or for `s3://bucket/prefix` the folder of work that stands for it; written as the user wrote it."""


class ResourceRequest(BaseModel):
    """What a run may use; changes no pixel."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_memory: str = Field("2GiB", description="Memory that the process may hold, for example 1500MB or 2GiB")
    workers: int = Field(0, ge=0, description="Tiles computed side by side on a CPU; 0 = one for each core")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:N or several GPUs, cuda:0,cuda:1")
    dask: str = Field(
        "",
        description="Where the network runs: local:N (N processes on this machine) or tcp://host:port (a Dask scheduler); in the "
        "flow's own process where empty",
    )

    def resources(self) -> Resources:
        """The same for the engine. Raises InvalidSettings for a size or a device that is none."""
        return Resources(parse_bytes(self.max_memory), self.workers, self.device, dask=self.dask)


class Request(BaseModel):
    """What every request holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    output: OutputPath = Field(
        description="Folder of the products, a static STAC catalogue, made where it is missing; or s3://bucket/prefix"
    )
    settings: DecloudSettings = Field(default_factory=DecloudSettings, description="What decides the pixels")
    resources: ResourceRequest = Field(default_factory=ResourceRequest, description="What the run may use")
    overwrite: bool = Field(default=False, description="Make products again that are there already")
    only: tuple[str, ...] = Field((), description="Ids of scenes; all that are found where empty")

    @field_validator("resources")
    @classmethod
    def _precise_workers(cls, resources: ResourceRequest, info: ValidationInfo) -> ResourceRequest:
        """Else a run would find out when its masks are made. Settings that are wrong themselves are not there."""
        settings = info.data.get("settings")
        if settings is not None and settings.precision == "bf16" and resources.dask:
            raise ValueError(BF16_OR_DASK)
        return resources

    def located(self) -> Self:
        """The same request for a process in another folder: local paths absolute. URLs keep their credentials."""
        settings = self.settings.model_copy(
            update={
                "checkpoint": _located(self.settings.checkpoint, _NAMED_CHECKPOINTS),
                "mask": _located(self.settings.mask, NAMED_MASKS),
            }
        )
        return self.model_copy(update={"output": Path(absolute(self.output)), "settings": settings})

    def stored(self) -> Self:
        """The request as it may be kept on disk: local paths absolute, no credentials in URLs."""
        located = self.located()
        settings = located.settings.model_copy(
            update={"checkpoint": _told(located.settings.checkpoint), "mask": _told(located.settings.mask)}
        )
        return located.model_copy(update={"settings": settings})


class CatalogRequest(Request):
    """What a request for the scenes of a catalogue holds."""

    catalog: str = Field(
        min_length=1,
        description="Static STAC catalogue (path or URL), STAC API (URL), or earth-search, planetary-computer, cdse",
    )
    aoi: str = Field(min_length=1, description="Area: west,south,east,north in degrees, or a file that geopandas reads")
    dates: str = Field(
        min_length=1,
        description="Span of time, both days included: 2023-08-01/2023-08-31; or a window before the scheduled start, in UTC: "
        "P7D, last 7 days",
    )
    refresh: bool = Field(
        default=False,
        description="Do scenes again for which better other dates have come; the new product names its predecessor",
    )

    @property
    def redo(self) -> Redo:
        """When a scene that has a product is done again: not just because the catalogue has grown."""
        return "better" if self.refresh else "recipe"

    def at(self, moment: datetime) -> Self:
        """The same with days in the place of a window that looks back from `moment`. Raises InvalidSettings for one of no days."""
        return self.model_copy(update={"dates": absolute_dates(self.dates, moment)})

    def located(self) -> Self:
        """As in `Request`, with the catalogue and the area."""
        update = {"catalog": _located(self.catalog, tuple(known_sources())), "aoi": _located_area(self.aoi)}
        return super().located().model_copy(update=update)

    def stored(self) -> Self:
        """As in `Request`, with the catalogue."""
        stored = super().stored()
        return stored.model_copy(update={"catalog": _told(stored.catalog)})


class AreaRequest(CatalogRequest):
    """The scenes of a catalogue in an area, in a span of time."""

    kind: Literal["area"] = Field("area", description="Which request this is; leave it as it is")
    part_of: str = Field(
        "",
        pattern=r"^([0-9a-f]{10})?$",
        description="Id of the backfill of which this is one window; empty for a run of its own",
    )


class SceneRequest(Request):
    """Scenes named one by one."""

    kind: Literal["scenes"] = Field("scenes", description="Which request this is; leave it as it is")
    sources: tuple[str, ...] = Field(
        min_length=1, description="GeoTIFFs, single-band files of one scene, SAFE folders, STAC items (path or URL)"
    )
    bands: tuple[str, ...] | None = Field(
        None, description="Bands to process; for a file whose bands have no names: the name of each, in its order"
    )
    aoi: str | None = Field(None, description="Area, for `clip`")

    @property
    def redo(self) -> Redo:
        """When a scene that has a product is done again: whoever names other dates means them to help."""
        return "changed"

    def located(self) -> Self:
        """As in `Request`, with the sources and the area."""
        update: dict[str, Any] = {"sources": tuple(_located(source) for source in self.sources)}
        if self.aoi is not None:
            update["aoi"] = _located_area(self.aoi)
        return super().located().model_copy(update=update)

    def stored(self) -> Self:
        """As in `Request`, with the sources."""
        stored = super().stored()
        return stored.model_copy(update={"sources": tuple(map(_told, stored.sources))})


RunRequest = Annotated[AreaRequest | SceneRequest, Field(discriminator="kind")]
"""Either of the two."""

_ADAPTER: TypeAdapter[AreaRequest | SceneRequest] = TypeAdapter(RunRequest)


def make_request(values: dict[str, Any]) -> AreaRequest | SceneRequest:
    """A request from plain values, as the command line or a record holds them.

    Raises InvalidSettings, one line that names the option, for a value that does not fit.
    """
    try:
        return _ADAPTER.validate_python(values)
    except ValidationError as error:
        raise InvalidSettings(one_line(error)) from None


def one_line(error: ValidationError) -> str:
    """What is wrong with the first value that does not fit, named as on the command line."""
    first = error.errors(include_url=False)[0]
    names = [str(part) for part in first["loc"] if isinstance(part, str) and part not in ("area", "scenes")]
    option = f"--{names[-1].replace('_', '-')}" if names else "request"
    given = first.get("input")
    value = f" {given}" if isinstance(given, str | int | float) else ""
    reason = first["msg"].removeprefix("Value error, ")
    return f"{option}{value}: {reason[:1].lower()}{reason[1:]}"


def _located(text: str, names: tuple[str, ...] = ()) -> str:
    """A name or URL as it is, a path absolute."""
    return text if text in names or is_remote(text) else absolute(text)


def _told(text: str) -> str:
    """A URL without credentials, anything else as it is."""
    return without_credentials(text) if is_remote(text) else text


def _located_area(text: str) -> str:
    path = absolute(text)
    return path if os.path.exists(path) else text  # noqa: PTH110 - Path.exists raises for names that no file can have
