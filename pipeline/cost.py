"""`Cost`: what a scene will take, before it is run: bytes, memory, seconds by stage.

The network's pace and that of reading are measured (`pipeline.pace`), mask and references were just made by whoever asks. What is left
are constants: seconds of one core for each pixel that is composed, written and encoded, times what a probe says of this machine. On a CPU the network shares the cores with all of
that, so their times add up, spread over the cores; on another device they overlap, and the longer one counts. A product's files are
encoded when all pixels are there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.pace import NetworkPace, SourcePace
    from pipeline.scene import Scene

COMPOSE = 2.0e-8
"""Seconds of a core for each pixel and band of the tiles that the network sees: their input, the sum of its answers, the result. As all
constants here measured on two cores on a made scene of 4096 x 4096 pixels, four bands, identity."""
WRITE = 1.2e-8
"""Seconds of a core for each pixel and layer that is assembled and handed to the files."""
ENCODE = 2.5e-8
"""Seconds of a core for each pixel and layer that is compressed, with its overviews, and read back."""
FILE = 0.03
"""Seconds of a core for each file, however small."""
BEGIN = 0.3
"""Seconds of a scene that do not grow with it: headers, locks, the checksums of its files, the item."""
_OVERVIEWS = 4 / 3
_CLASSES = 0.1
"""Compressed over raw bytes of a classification."""
_CONFIDENCE = 0.6
"""The same of the confidence where something was replaced."""
_PREVIEW = 3, 2**20
"""Bytes a pixel of the pictures, and pixels that they have at most."""


@dataclass(frozen=True)
class Cost:
    """What a scene will take."""

    read: int = 0
    """Bytes of pixels of the scene and the other dates, decoded."""
    written: int = 0
    """Bytes of pixels of the product, before compression."""
    disk: int = 0
    """Bytes of the product's files, about."""
    memory: int = 0
    """Bytes that will be held at most, for the block edge that was chosen."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Stage -> expected seconds; `network`, `read`, `compose` and `write` overlap as far as there are cores."""
    wall: float = 0.0
    """Expected seconds of the scene."""

    @property
    def limit(self) -> str:
        """The stage that will take longest; empty where nothing is known."""
        return max(self.seconds, key=self.seconds.__getitem__, default="")


@dataclass(frozen=True)
class Work:
    """How much there is to do."""

    scene: Scene
    references: int
    tiles: int
    """Tiles that the network must see."""
    tile: int
    """Edge of a tile, pixels."""
    share: float
    """Tiles that it must see over all."""
    replaced: float
    """Share of the pixels that are replaced, 0..1."""
    classes: Sequence[tuple[int, int]]
    """Shapes of the layers of one byte a pixel that every product has: provenance, mask, the source's own classification."""
    confidence: bool
    """True where there is a layer of it."""
    overviews: bool = True
    """True where the files hold smaller versions of themselves."""

    @property
    def pixels(self) -> int:
        """Pixels of all bands, each on its own grid."""
        return sum(band.shape[0] * band.shape[1] for band in self.scene.bands)


def cost_of(
    work: Work,
    network: NetworkPace | None,
    source: SourcePace,
    before: Mapping[str, float],
    memory: int,
    *,
    libraries: float,
    slowness: float,
    cores: int,
    abreast: int,
    shared: bool,
) -> Cost:
    """The cost of a scene.

    network: None where no tile needs one. libraries: seconds that this process spends once, before its first network. slowness: as
    `pipeline.pace.slowness` says. before: seconds of the stages that come first, as measured. memory: bytes planned. cores: threads of this process. abreast: tiles side by side. shared: True where the network computes on the same cores as everything else.
    """
    grid = work.scene.shape[0] * work.scene.shape[1]
    flags = sum(rows * cols for rows, cols in work.classes) + (grid if work.confidence else 0)
    read = work.pixels + int(work.pixels * work.references * work.share)
    tiles = -(-work.tiles // abreast) * abreast
    layers, files = work.pixels + flags, len(work.scene.bands) + len(work.classes) + work.confidence
    seconds = dict(before) | {
        "load": libraries + (0.0 if network is None else network.load),
        "network": 0.0 if network is None else tiles * network.tile,
        "read": read * source.pixel / cores,
        "compose": work.tiles * work.tile**2 * len(work.scene.bands) * COMPOSE * slowness / cores,
        "write": layers * WRITE * slowness / cores,
        "encode": (layers * ENCODE + files * FILE) * slowness / cores,
    }
    others = seconds["read"] + seconds["compose"] + seconds["write"]
    streamed = seconds["network"] + others if shared else max(seconds["network"], others)
    wall = BEGIN * slowness + sum(before.values()) + seconds["load"] + streamed + seconds["encode"]
    bands = 2 * work.pixels * source.packed
    masks = flags * _CLASSES + (grid * _CONFIDENCE * work.replaced if work.confidence else 0)
    each, most = _PREVIEW
    return Cost(
        read=2 * read,
        written=2 * work.pixels + flags,
        disk=int((bands + masks) * (_OVERVIEWS if work.overviews else 1) + each * min(grid, most)),
        memory=memory,
        seconds={name: round(value, 3) for name, value in seconds.items()},
        wall=wall,
    )
