"""From items to products: every stage of the main job, callable from a notebook. No Prefect here.

decloud   catalogs.search > pipeline.scene > .cloudmask > .references > .tiling > .inference (srgan.generator)
          > .blending > .composite > .cog / .zarr_store > .stac_item
train     catalogs.pairs > pipeline.chips > srgan.dataset > .clouds > .generator / .discriminator > .losses (.vgg)
          > .trainer > .checkpoint > .export
evaluate  srgan.checkpoint > pipeline.evaluation (srgan.metrics) > .report

`decloud_scene` runs the first line for one scene; `pipeline.engine` is where it is written down.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.engine import decloud_scene
    from pipeline.errors import PipelineError
    from pipeline.product import Product
    from pipeline.runner import run_scenes
    from pipeline.scene import Scene, open_scene
    from pipeline.settings import DecloudSettings, Resources

__all__ = [
    "DecloudSettings",
    "PipelineError",
    "Product",
    "Resources",
    "Scene",
    "decloud_scene",
    "open_scene",
    "run_scenes",
]

_HOMES = {
    "DecloudSettings": "settings",
    "PipelineError": "errors",
    "Product": "product",
    "Resources": "settings",
    "Scene": "scene",
    "decloud_scene": "engine",
    "open_scene": "scene",
    "run_scenes": "runner",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `decloud --help` stays quick."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
