"""From items to products, and to the chips that a training reads: every stage callable from a notebook. No Prefect here.

decloud   catalogs.search > pipeline.scene > .cloudmask > .references > .tiling > .inference (srgan.generator)
          > .blending > .composite > .cog / .zarr_store > .stac_item
train     catalogs.places > pipeline.pairs (.gate) > catalogs.pairs > pipeline.chipstore (.chips) > srgan.dataset > .clouds
          > .generator / .discriminator > .losses (.vgg) > .trainer > .checkpoint > .export
evaluate  srgan.checkpoint > pipeline.evaluation (srgan.metrics) > .report

`decloud_scene` runs the first line for one scene; `pipeline.engine` is where it is written down. Of the second, `build_pairs` and
`write_store` are this package's part. In five lines, with a SAFE folder, a STAC item, a GeoTIFF or several:

    from pathlib import Path
    from catalogs import open_sources
    from pipeline import decloud_scene
    [scene] = open_sources(["S2B_MSIL2A_20230810T094549_N0509_R079_T33TWL_20230810T130104.SAFE"])
    product = decloud_scene(scene, Path("out"))
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.chips import ChipArrays, read_chip
    from pipeline.chipstore import write_store
    from pipeline.engine import decloud_scene
    from pipeline.errors import PipelineError
    from pipeline.gate import GateLimits
    from pipeline.pairs import build_pairs
    from pipeline.product import Product
    from pipeline.runner import run_scenes
    from pipeline.scene import Scene, open_scene
    from pipeline.settings import DecloudSettings, Resources

__all__ = [
    "ChipArrays",
    "DecloudSettings",
    "GateLimits",
    "PipelineError",
    "Product",
    "Resources",
    "Scene",
    "build_pairs",
    "decloud_scene",
    "open_scene",
    "read_chip",
    "run_scenes",
    "write_store",
]

_HOMES = {
    "ChipArrays": "chips",
    "DecloudSettings": "settings",
    "GateLimits": "gate",
    "PipelineError": "errors",
    "Product": "product",
    "Resources": "settings",
    "Scene": "scene",
    "build_pairs": "pairs",
    "decloud_scene": "engine",
    "open_scene": "scene",
    "read_chip": "chips",
    "run_scenes": "runner",
    "write_store": "chipstore",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `decloud --help` stays quick."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
