"""The options that commands share, and the request that those of `plan` and `run` make together.

Defaults are written here as text only: what is not given is left to `DecloudSettings`, which need not be imported to
print a help page. A test compares the two.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from flows.folder import products_output
from pipeline.errors import InvalidSettings

if TYPE_CHECKING:
    from flows.request import AreaRequest, SceneRequest

Sources = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="SOURCE...",
        show_default=False,
        help="A GeoTIFF, several single-band files of one scene, a SAFE folder, a STAC item (file or URL).",
    ),
]
Catalog = Annotated[
    str | None,
    typer.Option(
        metavar="CAT",
        help="A static STAC catalogue (path or URL), a STAC API (URL), or earth-search, planetary-computer, cdse.",
    ),
]
Aoi = Annotated[
    str | None,
    typer.Option(metavar="AOI", help="Area: `w,s,e,n` in degrees, or a file that geopandas reads."),
]
Dates = Annotated[
    str | None,
    typer.Option(
        metavar="A/B", help="Span of time, both days included; `..` is an open end; P7D: the last seven days."
    ),
]
Bands = Annotated[
    str | None,
    typer.Option(
        metavar="B02,B03,...",
        show_default="all",
        help="Bands to process. Where a file's bands have no names: the name of each, in the file's order.",
    ),
]
Format = Annotated[
    Literal["cog", "zarr"] | None,
    typer.Option(show_default="cog", help="COG files, or one Zarr v3 store a scene."),
]
Checkpoint = Annotated[
    str | None,
    typer.Option(
        metavar="PATH|NAME",
        show_default="default",
        help="The network: a .safetensors file, an exported .pt2 or .ts, `default`, or `identity` (no network, for tests).",
    ),
]
Mask = Annotated[
    str | None,
    typer.Option(
        metavar="auto|scl|s2cloudless|csmask|PATH",
        show_default="auto",
        help="Who says where clouds are. auto: SCL where there is one, else an installed detector. "
        "PATH: a raster, non-zero = cloud.",
    ),
]
References = Annotated[
    int | None,
    typer.Option(metavar="K", show_default="2", help="Other dates to restore from; 0 = none."),
]
WindowDays = Annotated[
    int | None,
    typer.Option(metavar="N", show_default="30", help="Other dates at most this many days away."),
]
Grow = Annotated[
    float | None,
    typer.Option(metavar="M", show_default="100", help="Metres by which cloud and shadow are grown."),
]
Feather = Annotated[
    float | None,
    typer.Option(metavar="M", show_default="50", help="Metres over which the result fades in."),
]
MaxGenerated = Annotated[
    float | None,
    typer.Option(
        metavar="SHARE",
        show_default="0.6",
        help="Refuse a scene of which a larger share would be made up without a clear other date.",
    ),
]
Tile = Annotated[int | None, typer.Option(metavar="PX", show_default="256", help="Edge of the network's tiles.")]
Overlap = Annotated[
    int | None,
    typer.Option(metavar="PX", show_default="the checkpoint's margin", help="Overlap of the tiles."),
]
Clip = Annotated[bool, typer.Option("--clip", help="Replace clouds only inside the area (--aoi).")]
Refresh = Annotated[
    bool,
    typer.Option("--refresh", help="Do scenes again for which better other dates have come into the catalogue."),
]
Device = Annotated[
    str | None,
    typer.Option(
        metavar="auto|cpu|cuda[:i]",
        show_default="auto",
        help="Where the network runs; for run also several GPUs: cuda:0,cuda:1.",
    ),
]
Precision = Annotated[
    Literal["auto", "fp32", "bf16"] | None,
    typer.Option(
        show_default="auto",
        help="bf16: faster where the device has it, if the scene's own tiles show that it stays within 2 DN of fp32 on 99.9 % of the pixels, "
        "else fp32; auto: fp32.",
    ),
]
MaxMemory = Annotated[
    str | None,
    typer.Option(metavar="SIZE", show_default="2GiB", help="Memory that may be held."),
]
Workers = Annotated[
    int | None,
    typer.Option(metavar="N", show_default="all cores", help="Tiles side by side on a CPU."),
]
Dask = Annotated[
    str | None,
    typer.Option(
        metavar="local:N|tcp://HOST:PORT",
        envvar="DECLOUD_DASK",
        show_default="in this process",
        help="Where the network runs: N processes on this machine, or the workers of a Dask scheduler.",
    ),
]
OptionalOutput = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", parser=products_output, help="Folder or s3://bucket/prefix of the products, to see what is done."
    ),
]
Output = Annotated[
    Path,
    typer.Option(
        metavar="DIR",
        parser=products_output,
        help="Folder or s3://bucket/prefix of the products, a static STAC catalogue.",
    ),
]
Splits = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="YAML or JSON {group: train|val|test|other} instead of the tables' own splits."),
]
Prefect = Annotated[
    bool, typer.Option("--prefect", help="As a Prefect flow, on a server of its own where none is configured.")
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output, for machines.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress; errors, warnings and results only.")]
Debug = Annotated[bool, typer.Option("--debug", help="A traceback with an error.")]

_SETTINGS = (
    "format", "checkpoint", "mask", "grow", "feather", "references", "window_days", "max_generated", "tile", "overlap",
    "clip", "precision",
)  # fmt: skip
_RESOURCES = ("max_memory", "workers", "device", "dask")


def _of_request(
    catalog: Catalog = None,
    aoi: Aoi = None,
    dates: Dates = None,
    bands: Bands = None,
    format: Format = None,  # noqa: A002 - the option's name
    checkpoint: Checkpoint = None,
    mask: Mask = None,
    references: References = None,
    window_days: WindowDays = None,
    grow: Grow = None,
    feather: Feather = None,
    max_generated: MaxGenerated = None,
    tile: Tile = None,
    overlap: Overlap = None,
    device: Device = None,
    precision: Precision = None,
    max_memory: MaxMemory = None,
    workers: Workers = None,
    dask: Dask = None,
    *,
    clip: Clip = False,
    refresh: Refresh = False,
) -> None:
    """The options of every command that makes a request; only its signature is used."""


def requesting(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of a request, which it takes as `**values`: what it names itself stands around them.

    Its positional parameters come before them, its keyword-only ones after.
    """
    own = inspect.signature(command, eval_str=True).parameters.values()
    shared = [
        parameter.replace(kind=parameter.KEYWORD_ONLY)
        for parameter in inspect.signature(_of_request, eval_str=True).parameters.values()
    ]
    before = [parameter for parameter in own if parameter.kind is parameter.POSITIONAL_OR_KEYWORD]
    after = [parameter for parameter in own if parameter.kind is parameter.KEYWORD_ONLY]
    vars(command)["__signature__"] = inspect.Signature([*before, *shared, *after])
    return command


def build_request(values: Mapping[str, Any]) -> AreaRequest | SceneRequest:
    """The request that the options name; `values` are a command's parameters by name, None where not given.

    Raises InvalidSettings for options that do not go together or hold wrong values.
    """
    # Pydantic's models are made when this is imported; a help page does without.
    from flows.lookback import absolute_dates
    from flows.request import make_request
    from pipeline.settings import BF16_OR_DASK

    sources, catalog = values.get("sources") or [], values.get("catalog")
    if sources and catalog:
        raise InvalidSettings("give SOURCE or --catalog, not both")
    if values.get("precision") == "bf16" and values.get("dask"):
        raise InvalidSettings(BF16_OR_DASK)
    if not sources and not catalog:
        raise InvalidSettings("nothing to do: give a SOURCE, or --catalog with --aoi and --dates")
    bands = _split(values["bands"]) if values.get("bands") is not None else None
    request: dict[str, Any] = {
        "output": values["output"],
        "overwrite": bool(values.get("overwrite")),
        "settings": _given(values, _SETTINGS) | ({} if bands is None else {"bands": bands}),
        "resources": _given(values, _RESOURCES),
    }
    if catalog:
        missing = [f"--{name}" for name in ("aoi", "dates") if not values.get(name)]
        if missing:
            raise InvalidSettings(f"--catalog needs {' and '.join(missing)} too")
        dates = absolute_dates(values["dates"], datetime.now(UTC))
        request |= {"kind": "area", "catalog": catalog, "aoi": values["aoi"], "dates": dates}
        request["refresh"] = bool(values.get("refresh"))
    else:
        if values.get("dates"):
            raise InvalidSettings("--dates goes with --catalog; a SOURCE is one date")
        if values.get("clip") and not values.get("aoi"):
            raise InvalidSettings("--clip needs an area: give --aoi")
        if values.get("refresh"):
            raise InvalidSettings(
                "--refresh goes with --catalog: a SOURCE is always done again where other dates are named with it"
            )
        request |= {"kind": "scenes", "sources": sources, "bands": bands, "aoi": values.get("aoi")}
    made = make_request(request)
    made.resources.resources()
    return made


def _given(values: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: values[name] for name in names if values.get(name) is not None}


def _split(text: str) -> tuple[str, ...]:
    """Names in `B02,B03` or `B02 B03`."""
    names = tuple(text.replace(",", " ").split())
    if not names:
        raise InvalidSettings("--bands is empty: name bands like B02,B03,B04,B08")
    return names
