"""dask's `map_overlap` on a lazy stack, written with rioxarray's `to_raster(lock=...)`: what xarray's users write.

Chunks are tile - overlap wide and get half the overlap from each neighbour, so that the network sees whole tiles. `to_raster` writes by
windows, which a COG cannot be, so its files are translated at the end. All four files are computed together: one after the other, the
network would run four times.
"""

from __future__ import annotations

import sys
import threading

import dask.array as da
import dask.base
import dask.config
import numpy as np
import numpy.typing as npt
import rioxarray
import torch
import xarray as xr

from benchmarks.bench.contenders.network import load
from benchmarks.bench.contenders.rasters import TILED, convert, numbers, settings, temporary
from benchmarks.bench.job import Job


def opened(path: str, step: int) -> xr.DataArray:
    """A raster (1, rows, cols), lazy, in chunks of step x step."""
    file = rioxarray.open_rasterio(path, chunks={"x": step, "y": step})
    if not isinstance(file, xr.DataArray):
        raise TypeError(f"{path}: not one raster but several")
    return file


def main(job: Job) -> None:
    """Run the job."""
    predict = load(job)
    step = job.tile - job.overlap
    # As everywhere: the job's threads in all, here by dask, one in each convolution.
    torch.set_num_threads(1)

    def restore(block: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
        with torch.inference_mode():
            answer = numbers(predict(torch.from_numpy(np.ascontiguousarray(block))[None])[0].numpy())
        # dask wants as many channels back as it gave.
        return np.concatenate([answer, np.zeros((len(block) - len(answer), *answer.shape[1:]), np.uint16)])

    with job.timed() as facts, settings(job), dask.config.set(scheduler="threads", num_workers=job.threads):
        files = [opened(path, step) for path in job.bands.values()]
        layers = [file.data / np.float32(10000) for file in files]
        if job.network and job.mask:
            layers.append((opened(job.mask, step).data > 0).astype(np.float32))
        stack = da.concatenate(layers).astype(np.float32).rechunk({0: -1})
        half = job.overlap // 2
        restored = da.map_overlap(restore, stack, depth={0: 0, 1: half, 2: half}, boundary="reflect", dtype=np.uint16)
        writes = []
        for number, (name, file) in enumerate(zip(job.bands, files, strict=True)):
            band = file.copy(data=restored[number : number + 1])
            storage = {key: value for key, value in TILED.items() if key != "driver"}
            writes.append(band.rio.to_raster(temporary(job, name), lock=threading.Lock(), compute=False, **storage))
        dask.base.compute(*writes)
        facts["files"] = convert(job)


if __name__ == "__main__":
    main(Job.load(sys.argv[1]))
