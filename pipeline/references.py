"""`References`: the other dates that show most of what the scene's clouds hide, brought to the scene's level.

Candidates are ranked by the share of the scene's cloudy pixels that are clear in them, on a thinned grid where an SCL makes
that cheap; full masks are made for the chosen ones only. A candidate that does not serve is passed over with its reason.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from catalogs.item import SceneItem
from pipeline.ahead import in_order
from pipeline.candidates import days_between, may_serve
from pipeline.classes import CLEAR, SNOW, SceneClassification, is_cloudy
from pipeline.cloudmask import BLOCK, CloudMask
from pipeline.errors import InvalidSettings, PipelineError, ReadFailed
from pipeline.growth import GROW, dilate, effective_radius
from pipeline.harmonise import Harmonisation, harmonisation
from pipeline.known_masks import mask_of
from pipeline.radiometry import check_radiometry
from pipeline.reader import step_for
from pipeline.scene import Scene, open_scene

_RANKING = 500_000  # pixels of the thinned grid on which candidates are ranked
_SAMPLE = 1_000_000  # pixels of the thinned grid on which they are harmonised
Thing = TypeVar("Thing", "SceneItem", "_Candidate")
Made = TypeVar("Made")

_NEAR_TIE = 0.05  # of the cloudy pixels: below that the nearer date is the better one


@dataclass(frozen=True, eq=False)
class Reference:
    """One other date on the grid of the scene."""

    scene: Scene
    """Open; whoever asked for the references closes it."""
    mask: CloudMask
    """Grown."""
    days: float
    """Signed distance to the scene, days; positive: later."""
    harmonise: Harmonisation
    """Reflectances (C, ...) of this date in the scene's bands, in its order -> the same at the scene's level."""
    share: float
    """Share of the scene's cloudy pixels that are clear here, 0..1, as ranked."""

    @property
    def id(self) -> str:
        """Id of the date's item."""
        return self.scene.id

    def valid(self, rows: slice, cols: slice) -> NDArray[np.bool_]:
        """Where a window of the work grid is clear or snow on this date; bool (rows, cols)."""
        classes = self.mask.classes[rows, cols]
        clear: NDArray[np.bool_] = (classes == CLEAR) | (classes == SNOW)
        return clear

    @property
    def harmonised(self) -> Mapping[str, bool]:
        """Per band; False where too few jointly clear pixels were there to bring it to the scene's level."""
        names = (band.name for band in self.scene.bands)
        return {name: fit.harmonised for name, fit in zip(names, self.harmonise.fits, strict=True)}


@dataclass(frozen=True)
class References:
    """The chosen dates, and why others were not."""

    references: tuple[Reference, ...] = ()
    """Best first."""
    skipped: Mapping[str, str] = field(default_factory=dict)
    """Id of a candidate that cannot serve -> reason; those that were only not the best are not in it."""


def select_references(
    scene: Scene,
    mask: CloudMask,
    candidates: Sequence[SceneItem],
    count: int,
    window_days: float,
    method: str = "auto",
    grow_m: float = GROW,
    *,
    threads: int = 1,
) -> References:
    """The `count` candidates that are clear under most of the scene's cloudy pixels, at most `window_days` away.

    Dates within 5 % of the best share: the nearer in time first, then by id. `method` and `grow_m` as for the scene's
    mask (a user's raster belongs to the scene alone: other dates are then masked by `auto`). Never raises for what is
    wrong with a candidate for good. Raises ReadFailed where a file of the scene or of a candidate cannot be read just now, and InvalidScene
    where the scene itself cannot.
    """
    if count < 0 or window_days < 0:
        raise InvalidSettings(f"references {count} and window of {window_days} days must not be negative")
    skipped: dict[str, str] = {}
    if count == 0 or not is_cloudy(mask.classes).any():
        return References()
    method = method if method in {"auto", "scl", "s2cloudless", "csmask"} else "auto"
    with ExitStack() as opened:
        ranked: list[_Candidate] = []
        within = sorted(_within(scene, candidates, window_days), key=lambda item: item.id)
        for item, found in zip(
            within, _tried(lambda item: _Candidate.of(scene, mask, item, method, grow_m), within, threads), strict=True
        ):
            if isinstance(found, PipelineError):
                skipped[item.id] = str(found)
                continue
            opened.callback(found.scene.close)
            if found.share > 0:
                ranked.append(found)
            else:
                skipped[item.id] = "no pixel under the scene's clouds is clear"
        chosen: list[Reference] = []
        while ranked and len(chosen) < count:
            best = [_take_best(ranked, scene) for _ in range(min(count - len(chosen), len(ranked)))]
            made = _tried(lambda candidate: candidate.reference(scene, mask, method, grow_m), best, threads)
            for candidate, reference in zip(best, made, strict=True):
                if isinstance(reference, PipelineError):
                    skipped[candidate.scene.id] = str(reference)
                else:
                    chosen.append(reference)
        # Opened files of those passed over close with the stack; the chosen open theirs again when they are read.
    return References(tuple(chosen), MappingProxyType(skipped))


@dataclass(frozen=True, eq=False)
class _Candidate:
    """A date that could serve."""

    scene: Scene
    share: float
    mask: CloudMask | None
    """Full mask, where ranking needed it already."""

    @property
    def id(self) -> str:
        return self.scene.id

    @classmethod
    def of(cls, scene: Scene, mask: CloudMask, item: SceneItem, method: str, grow_m: float) -> _Candidate:
        missing = [band.name for band in scene.bands if band.name not in item.bands]
        if missing:
            raise InvalidSettings(f"it lacks the bands {', '.join(missing)}")
        other = open_scene(item, [band.name for band in scene.bands])
        try:
            _same_grid(scene, other)
            check_radiometry(other)
            if method in {"auto", "scl"} and item.scl is not None:
                step = step_for(scene.shape, _RANKING)
                clear = _clear_thinned(other, step, grow_m)
                cloudy = is_cloudy(mask.classes[step // 2 :: step, step // 2 :: step])
                return cls(other, _share(cloudy, clear), None)
            full = mask_of(other, method, grow_m)
            return cls(other, _share(is_cloudy(mask.classes), _clear(full.classes)), full)
        except BaseException:
            other.close()
            raise

    def reference(self, scene: Scene, mask: CloudMask, method: str, grow_m: float) -> Reference:
        own = self.mask or mask_of(self.scene, method, grow_m)
        days = days_between(scene.item, self.scene.item)
        return Reference(self.scene, own, days, harmonise(scene, mask, self.scene, own, days), self.share)


def harmonise(scene: Scene, mask: CloudMask, other: Scene, other_mask: CloudMask, days: float = 0.0) -> Harmonisation:
    """What brings `other` to `scene`, `days` away (0: not known), from a thinned sample of cells that are wholly clear in both."""
    step = step_for(scene.shape, _SAMPLE)
    clear = _cells_clear(mask.classes, step) & _cells_clear(other_mask.classes, step)
    ours: list[NDArray[np.float32]] = []
    theirs: list[NDArray[np.float32]] = []
    jointly = []
    for band in scene.bands:
        other_band = other.band(band.name)
        joint = np.ones(int(np.count_nonzero(clear)), np.bool_)
        for side, source, found in ((scene, band, ours), (other, other_band, theirs)):
            pixels = side.read_decimated(band.name, step)[clear]
            if source.nodata is not None:
                joint &= pixels != source.nodata
            found.append(pixels.astype(np.float32) * np.float32(source.scale) + np.float32(source.offset))
        jointly.append(joint)
    shares = mask.fractions
    return harmonisation(np.stack(theirs), np.stack(ours), jointly, clear=shares["clear"] + shares["snow"], days=days)


def _within(scene: Scene, candidates: Sequence[SceneItem], window_days: float) -> list[SceneItem]:
    """Candidates that may serve, each id once."""
    found = {item.id: item for item in candidates if may_serve(scene.item, item, window_days)}
    return list(found.values())


def _tried(work: Callable[[Thing], Made], things: Sequence[Thing], threads: int) -> Generator[Made | PipelineError]:
    """What `work` makes of each thing, in order, or why it cannot; a few dates at a time."""

    def one(thing: Thing) -> Made | PipelineError:
        try:
            return work(thing)
        except PipelineError as error:
            # The run key names each date that may serve: without one that is only out of reach just now it would be another product.
            if error.transient:
                raise ReadFailed(
                    f"{thing.id}, which may be a reference, is out of reach: {error}; try again later, or do without it: "
                    "a smaller --window-days, or --references 0"
                ) from error
            return error

    return in_order(one, things, threads)


def _take_best(ranked: list[_Candidate], scene: Scene) -> _Candidate:
    top = max(candidate.share for candidate in ranked)
    close = [candidate for candidate in ranked if candidate.share >= top - _NEAR_TIE]
    best = min(close, key=lambda candidate: (abs(days_between(scene.item, candidate.scene.item)), candidate.scene.id))
    ranked.remove(best)
    return best


def _same_grid(scene: Scene, other: Scene) -> None:
    for band in scene.bands:
        ours, theirs = band.geobox, other.band(band.name).geobox
        tolerance = 0.01 * abs(ours.transform.a)
        moved = max(abs(a - b) for a, b in zip(ours.transform, theirs.transform, strict=True))
        if ours.crs != theirs.crs or ours.shape != theirs.shape or moved > tolerance:
            raise InvalidSettings(f"its {band.name} lies on another grid than that of {scene.id}")


def _share(cloudy: NDArray[np.bool_], clear: NDArray[np.bool_]) -> float:
    return int(np.count_nonzero(cloudy & clear)) / max(int(np.count_nonzero(cloudy)), 1)


def _clear(classes: NDArray[np.uint8]) -> NDArray[np.bool_]:
    clear: NDArray[np.bool_] = (classes == CLEAR) | (classes == SNOW)
    return clear


def _clear_thinned(scene: Scene, step: int, grow_m: float) -> NDArray[np.bool_]:
    """Clear pixels by SCL at the middle of every `step` x `step` pixels, grown on the thinned grid."""
    source = SceneClassification.of(scene)
    rows, cols = scene.shape
    strip = max(BLOCK // step, 1) * step
    parts = []
    for top in range(0, rows, strip):
        window = slice(top, min(top + strip, rows)), slice(0, cols)
        # To rank, the SCL's own "no data" will do: the bands, which take far longer to read, are asked for the chosen.
        classes = np.where(source.may_lack(*window), np.uint8(0), source.read(*window))
        parts.append(classes[step // 2 :: step, step // 2 :: step])
    thinned = np.concatenate(parts)
    height, width = scene.pixel_size
    radius = effective_radius(grow_m, scene.pixel_size)
    cloudy = dilate(is_cloudy(thinned), radius, (height * step, width * step))
    return _clear(thinned) & ~cloudy


def _cells_clear(classes: NDArray[np.uint8], step: int) -> NDArray[np.bool_]:
    """Cells of `step` x `step` pixels that are clear throughout (snow melts: it is no measure of the light)."""
    strip = max(BLOCK // step, 1) * step
    parts = []
    for top in range(0, classes.shape[0], strip):
        clear = classes[top : top + strip] == CLEAR
        clear = np.logical_and.reduceat(clear, np.arange(0, clear.shape[0], step), axis=0)
        parts.append(np.logical_and.reduceat(clear, np.arange(0, clear.shape[1], step), axis=1))
    return np.concatenate(parts)
