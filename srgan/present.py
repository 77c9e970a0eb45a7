"""Bands that a scene does not have: left out of the arithmetic, and put back as zeros where the learned layers ask for all of them.

A network of 13 bands on a scene of four would else fill, compare and average nine bands of zeros, a fifth of its time on a CPU. What is
computed for a band that is there is the same, bit for bit, where `worth_leaving_out` says so: no band takes part in another's sums but with
a weight of 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

Channels = tuple[int, ...] | None
"""Numbers of the bands that a tensor holds; None = all, in order."""

FEWEST = 4
"""Channels below which torch enlarges maps by other code, whose last bits differ."""


def worth_leaving_out(channels: tuple[int, ...], bands: int) -> Channels:
    """`channels` where a network of so many bands gives the same bits for them alone; None where it must be given all.

    >>> worth_leaving_out((1, 2, 3, 7), 13), worth_leaving_out((1, 2, 3), 13), worth_leaving_out((2, 1, 3, 7), 13)
    ((1, 2, 3, 7), None, None)
    """
    rising = list(channels) == sorted({*channels})
    return channels if rising and FEWEST <= len(channels) < bands else None


def chosen(tensor: Tensor, channels: Channels) -> Tensor:
    """The channels (dimension 1) of a tensor (B, 13, ...) that `channels` names: (B, C, ...)."""
    # Not by a list of numbers: on a GPU that is a tensor to be sent there first, which nothing that is captured may wait for.
    return tensor if channels is None else torch.stack([tensor[:, number] for number in channels], 1)


def widened(tensor: Tensor, channels: Channels, bands: int) -> Tensor:
    """All channels again: (B, C + rest, H, W) -> (B, bands + rest, H, W), 0 where a band is not among `channels`."""
    if channels is None:
        return tensor
    held = len(channels)
    full = tensor.new_zeros(tensor.shape[0], bands + tensor.shape[1] - held, *tensor.shape[2:])
    for place, number in enumerate(channels):
        full[:, number] = tensor[:, place]
    full[:, bands:] = tensor[:, held:]
    return full


def taken(tensor: Tensor, channels: Channels, bands: slice) -> Tensor:
    """The bands numbered `bands`, of `tensor` (B, C, H, W): (B, len, H, W), 0 where one is not among `channels`."""
    if channels is None:
        return tensor[:, bands]
    wanted = range(bands.start, bands.stop)
    part = tensor.new_zeros(tensor.shape[0], len(wanted), *tensor.shape[2:])
    for place, number in enumerate(channels):
        if number in wanted:
            part[:, number - wanted.start] = tensor[:, place]
    return part
