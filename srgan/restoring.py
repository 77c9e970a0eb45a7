"""`Restoring`: a network with the bands of a scene: a pass of tiles in, on its device; restored bands and expected errors out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from srgan.feed import Feed
from srgan.precision import trunk_in
from srgan.present import worth_leaving_out
from srgan.spec import BANDS, GROUPS

if TYPE_CHECKING:
    from srgan.exported import Exported
    from srgan.generator import Generator


class Restoring:
    """What one device runs."""

    def __init__(self, network: Generator | Exported, bands: tuple[str, ...], groups: tuple[str, ...]) -> None:
        """A network on its device, for tiles of the bands `bands`; of the errors to expect it gives those of the band groups `groups`.

        Raises InvalidSpec for a band that the network does not know.
        """
        from srgan.exported import Exported

        self.fixed = isinstance(network, Exported)
        """Whether its shapes were fixed when it was exported: it takes all bands, and is run as it is."""
        self._network: Any = network
        self._channels = network.spec.require_bands(bands)
        self._errors = tuple(list(GROUPS).index(name) for name in groups)
        self._own = None if self.fixed else worth_leaving_out(self._channels, len(BANDS))

    def __call__(self, feed: Feed, given: Mapping[str, Tensor]) -> Tensor:
        """(B, C + groups, H, W) float32: restored reflectance, behind it the expected absolute error of each group."""
        arguments = feed.arguments(given, self._channels, whole=self._own is None)
        with trunk_in(half=feed.half, device=arguments[0].device):
            said = self._network(*arguments) if self._own is None else self._network(*arguments, channels=self._own)
        parts = (
            [said.restored]
            if self._own is not None
            else [said.restored[:, number : number + 1] for number in self._channels]
        )
        parts += [said.uncertainty[:, number : number + 1] for number in self._errors]
        return torch.cat(parts, 1).float()
