"""The contenders that lines share: what users would otherwise write, over the same bands with the same tiles."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.bench.entry import Check, Entry
from benchmarks.bench.job import Job

HOME = "benchmarks.bench.contenders"

NAIVE = "naive"
"""Name of the plain loop that writes the product's profile."""
OVERLAPPING = ("overlap", "terratorch", "monai", "opensr", "dask")
"""Names of the contenders that overlap tiles."""


def naive_loops(job: Job, check: Check) -> list[Entry]:
    """The loop without overlap in its three ways to finish."""
    ways = (
        (NAIVE, "cog", "naive loop, no overlap, COG"),
        ("naive-memory", "memory", "naive loop, no overlap, COG through memory"),
        ("naive-tiled", "tiled", "naive loop, no overlap, tiled GeoTIFF without overviews"),
    )
    return [
        Entry(name, label, f"{HOME}.naive", replace(job, options={"finish": finish}), "shared", check)
        for name, finish, label in ways
    ]


def overlapping(job: Job, check: Check) -> list[Entry]:
    """Those that overlap tiles and blend."""
    peers = (
        ("overlap", "overlap loop, sums in memory", "naive_overlap", "shared"),
        ("terratorch", "terratorch-style tiled inference", "terratorch_style", "shared"),
        ("monai", "MONAI sliding_window_inference", "monai_window", "monai"),
        ("opensr", "opensr-utils", "opensr", "opensr-utils"),
        ("dask", "dask map_overlap + to_raster(lock)", "dask_overlap", "dask"),
    )
    return [Entry(name, label, f"{HOME}.{module}", job, group, check) for name, label, module, group in peers]
