"""Whether two networks compute the same: a generator and its export on seeded inputs of every kind that a scene may bring."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from srgan.archive import ExportRecord
from srgan.errors import ExportFailed
from srgan.spec import TYPICAL_LAND

BOUND = 5e-5
"""Largest difference from the generator that an export may have, in any output: reflectance, half a digital number, so that a product's
pixel moves by at most one. Measured: 0 for TorchScript and .pt2; 6e-7 (`small`) and 5e-6 (`base`) for ONNX, which sums in another order."""

Inputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]
Network = Callable[..., tuple[Tensor, ...]]


def differences(network: Network, other: Network, record: ExportRecord) -> dict[str, dict[str, float]]:
    """Largest absolute difference of each output on each of the made inputs: {case: {output: difference}}.

    Raises ExportFailed where one is larger than `BOUND`, not a number, or of another shape.
    """
    found: dict[str, dict[str, float]] = {}
    for case, inputs in made_inputs(record):
        with torch.inference_mode():
            expected, given = network(*inputs), other(*inputs)
        found[case] = {}
        for info, ours, theirs in zip(record.outputs, expected, given, strict=True):
            difference = float((ours - theirs).abs().max()) if ours.shape == theirs.shape == info.shape else math.nan
            # Written so that what is not a number fails too.
            if not difference <= BOUND:
                raise ExportFailed(
                    f"{info.name} differs from the checkpoint's by {difference:.2g} on `{case}` inputs, more than {BOUND:g}"
                )
            found[case][info.name] = difference
    return found


def made_inputs(record: ExportRecord) -> Iterator[tuple[str, Inputs]]:
    """Seeded inputs of the exported shapes: one to trace with, then every kind that a scene may bring."""
    bands = record.spec.bands
    nothing, everything = torch.zeros(len(bands)), torch.ones(len(bands))
    fine = torch.tensor([float(name in ("B02", "B03", "B04", "B08")) for name in bands])
    yield "traced", _inputs(record, 0, present=everything, cloud=0.4, dates=0.5, lost=0.05)
    yield "clear", _inputs(record, 1, present=everything, cloud=0.0, dates=0.8, lost=0.0)
    yield "cloudy", _inputs(record, 2, present=everything, cloud=0.6, dates=0.7, lost=0.02)
    yield "cloudy, no reference", _inputs(record, 3, present=everything, cloud=0.6, dates=0.0, lost=0.0)
    yield "overcast", _inputs(record, 4, present=everything, cloud=1.0, dates=0.9, lost=0.0)
    yield "10 m bands only", _inputs(record, 5, present=fine, cloud=0.5, dates=0.5, lost=0.1)
    yield "no data", _inputs(record, 6, present=nothing, cloud=0.5, dates=0.0, lost=1.0)


def _inputs(record: ExportRecord, seed: int, *, present: Tensor, cloud: float, dates: float, lost: float) -> Inputs:
    """Land under soft-edged clouds. `cloud`, `dates`, `lost`: shares of pixels under cloud, clear on other dates, without data.

    Where there is no data, no reference or no such band, the values are not numbers: they must not matter.
    """
    noise = torch.Generator().manual_seed(seed)
    B, T, H = record.batch, record.references, record.tile

    def field(count: int, channels: int = 1) -> Tensor:
        """Smooth noise of uniform values 0..1, (B * count, channels, H, H)."""
        coarse = torch.rand(B * count, channels, -(-H // 16), -(-H // 16), generator=noise)
        return F.interpolate(coarse, size=(H, H), mode="bilinear") if count else coarse.new_zeros(0, channels, H, H)

    def chosen(share: float, count: int = 1) -> Tensor:
        """About `share` of the pixels, in blobs, (B * count, 1, H, H)."""
        if share in (0.0, 1.0):
            return torch.full((B * count, 1, H, H), share)
        return (field(count) < share).float()

    land = torch.tensor(TYPICAL_LAND)[:, None, None] * (0.6 + 0.8 * field(1) + 0.2 * field(1, len(TYPICAL_LAND)))
    mask = chosen(cloud) * (0.3 + 0.7 * field(1))
    absent = (present == 0)[None, :, None, None]
    valid = 1 - chosen(lost)
    cloudy = torch.where((valid == 0) | absent, torch.nan, land + 0.6 * mask)
    usable = chosen(dates, T).unflatten(0, (B, T))
    other = (land[:, None] * (0.9 + 0.2 * field(T, len(TYPICAL_LAND)).unflatten(0, (B, T)))).clamp(0, 1)
    other = torch.where((usable == 0) | absent[:, None], torch.nan, other)
    days = torch.randint(-30, 31, (B, T), generator=noise).float()
    return cloudy, present.repeat(B, 1), mask, valid, other, usable, days
