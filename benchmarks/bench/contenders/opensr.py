"""opensr-utils, `large_file_processing` with a factor of 1: its own reading, tiling, blending and writing.

It reads one raster of all bands and writes one, so a VRT joins the bands before and its result is written as the product's files
after. Batch and the rest are its defaults.
"""

from __future__ import annotations

import sys
from pathlib import Path
from xml.sax.saxutils import escape

import rasterio
import torch
from opensr_utils import large_file_processing  # type: ignore[import-not-found,unused-ignore]

from benchmarks.bench.contenders.network import load
from benchmarks.bench.contenders.rasters import profile_of, target, write_stack
from benchmarks.bench.job import Job

KINDS = {"uint8": "Byte", "uint16": "UInt16"}


def joined(job: Job) -> Path:
    """A VRT of all bands, and of the mask behind them where there is a network."""
    profile = profile_of(job)
    width, height = profile["width"], profile["height"]
    size = f'rasterXSize="{width}" rasterYSize="{height}"'
    place = ", ".join(repr(float(value)) for value in profile["transform"].to_gdal())
    parts = [f"<VRTDataset {size}><SRS>{escape(profile['crs'].to_wkt())}</SRS><GeoTransform>{place}</GeoTransform>"]
    for number, path in enumerate([*job.bands.values(), *([job.mask] if job.network else [])], 1):
        parts.append(
            f'<VRTRasterBand dataType="UInt16" band="{number}"><SimpleSource><SourceFilename>{escape(path)}</SourceFilename>'
            f"<SourceBand>1</SourceBand></SimpleSource></VRTRasterBand>"
        )
    vrt = target(job, "all").with_suffix(".vrt")
    vrt.write_text("".join(parts) + "</VRTDataset>", encoding="utf-8")
    return vrt


class Scaled(torch.nn.Module):
    """The network behind opensr-utils' own scaling: it divides all channels by 10000, the mask's 0 and 1 too."""

    def __init__(self, job: Job) -> None:
        super().__init__()
        self.network, self.masked = load(job), bool(job.network)

    def forward(self, stack: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> (B, bands, H, W)."""
        if self.masked:
            stack = torch.cat([stack[:, :-1], (stack[:, -1:] > 0).to(stack.dtype)], 1)
        answer: torch.Tensor = self.network(stack)
        return answer


def main(job: Job) -> None:
    """Run the job."""
    model = Scaled(job)
    with job.timed() as facts:
        vrt = joined(job)
        result = vrt.with_name("sr.tif")
        large_file_processing(
            str(vrt),
            model=model,
            window_size=(job.tile, job.tile),
            factor=1,
            overlap=job.overlap,
            device="cpu",
            output_path=str(result),
            output_units="normalized",
        ).run()
        with rasterio.open(result) as file:
            pixels = file.read()
        facts["files"] = write_stack(job, pixels)
        result.unlink()
        vrt.unlink()


if __name__ == "__main__":
    main(Job.load(sys.argv[1]))
