"""`gallery`: for each kind of image the best, the median and the worst that was held out, as strips input | prediction | truth | error."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.model_card.inputs import Report
from benchmarks.model_card.words import Caption, Words
from pipeline.errors import InvalidSettings
from pipeline.report_methods import FIRST_GUESS

PARTS = ("input", "prediction", "truth", "error")
RANKS = ("best", "median", "worst")
REAL = "pair"
"""How the protocols of real clouds begin."""
BUDGET = 1_400_000
"""Bytes of all strips together; with the curves the folder stays below 1.5 MB."""
QUALITIES = (80, 70, 60, 50, 40)
_EDGE, _GAP = 192, 4


@dataclass(frozen=True)
class Kind:
    """A kind of image."""

    what: str
    fits: Callable[[Mapping[str, Any]], bool]
    region: str = "cloudy"
    """Pixels by whose RMSE its images are ranked."""


def _ground(name: str) -> Callable[[Mapping[str, Any]], bool]:
    return lambda image: image.get("ground") == name


KINDS: Mapping[str, Kind] = {
    "thin haze": Kind("the ground is seen through the cloud", lambda image: image["cover_class"] == "thin"),
    "thick cloud": Kind(
        "opaque cloud and its shadow over more than 30 % of the image",
        lambda image: image["cover_class"] in ("30-70 %", "over 70 %", "full"),
    ),
    "shadow": Kind(
        "shadow on 5 % of the image or more, ranked by the pixels in shadow",
        lambda image: (image.get("shadow") or 0) >= 0.05,
        "shadow",
    ),
    "water": Kind("mostly water below the clouds", _ground("water")),
    "snow": Kind("mostly snow below the clouds", _ground("snow")),
    "built-up": Kind("mostly built-up or bare ground below the clouds", _ground("built-up or bare")),
}


@dataclass(frozen=True, eq=False)
class Held:
    """An image or a scene of a report."""

    report: Report
    entry: Mapping[str, Any]

    @property
    def id(self) -> str:
        """As in the report."""
        return str(self.entry["id"])

    @property
    def input(self) -> str:
        """What images have in common that show one input, with and without other dates."""
        return re.sub(r"(-1-date|[.-]pair-1-date|-dates)$", "", self.id)

    def rmse(self, region: str, method: str = "") -> float | None:
        """Of the model, or of another method."""
        scores = self.entry["scores"].get(method or self.report.methods.subject, {})
        value: float | None = scores.get(region, {}).get("rmse")
        return value


@dataclass(frozen=True, eq=False)
class Shown:
    """A place in the gallery."""

    kind: str
    rank: str
    held: Held

    @property
    def file(self) -> str:
        """Name of its strip."""
        return f"{self.kind.replace(' ', '-')}-{self.rank}.webp"

    @property
    def line(self) -> str:
        """What is known of it by figures."""
        entry, region = self.held.entry, KINDS[self.kind].region
        document, methods = self.held.report.document, self.held.report.methods
        simple = {
            name: value
            for name in methods.baselines
            if name != FIRST_GUESS and (value := self.held.rmse(region, name)) is not None
        }
        best = min(simple, key=lambda name: simple[name], default=None)
        beside = f"; best simple fill {simple[best]:.4f}, {best}" if best else ""
        sky = f", {entry['sky']}" if entry["sky"] else ""
        return (
            f"`{self.held.id}`, split {document['split']}, protocol {entry['protocol']}{sky}, cover {entry['cover']:.0%}, "
            f"RMSE of {'shadow' if region == 'shadow' else 'cloudy'} pixels {self.held.rmse(region):.4f}{beside}"
        )


def images_of(reports: Sequence[Report]) -> list[Held]:
    """All images of all reports, each id once."""
    found = {entry["id"]: Held(report, entry) for report in reports for entry in report.document["images"]}
    return list(found.values())


def choose(kind: str, images: Sequence[Held]) -> tuple[list[Shown], str]:
    """Best, median and worst of a kind, of three inputs where there are as many; and what is to be said of how many there were.

    Real clouds alone, unless they are fewer than three. Of two inputs there is no median, of one no worst.
    """
    region = KINDS[kind].region
    fit = [one for one in images if KINDS[kind].fits(one.entry) and one.rmse(region) is not None]
    real = [one for one in fit if one.entry["protocol"].startswith(REAL)]
    made = len({one.input for one in real}) < len(RANKS)
    used = fit if made else real
    ranked = sorted(used, key=lambda one: (one.rmse(region), one.id))
    inputs = len({one.input for one in ranked})
    if not ranked:
        return [], "No held-out image is of this kind: not measured."
    chosen = {"best": ranked[0]}
    taken = {ranked[0].input}
    if inputs > 1:
        chosen["worst"] = next(one for one in reversed(ranked) if one.input not in taken)
        taken.add(chosen["worst"].input)
    if inputs > 2:
        middle = (len(ranked) - 1) / 2
        near = sorted(range(len(ranked)), key=lambda place: (abs(place - middle), place))
        chosen["median"] = next(ranked[place] for place in near if ranked[place].input not in taken)
    said = f"{len(ranked)} held-out image{'s' * (len(ranked) != 1)} of {inputs} input{'s' * (inputs != 1)}"
    if made:
        clouds = len({one.input for one in real})
        said += f", of which {clouds} {'has' if clouds == 1 else 'have'} real clouds; the others are made"
    if inputs < len(RANKS):
        said += f", fewer than {len(RANKS)}: no {' and no '.join(rank for rank in RANKS if rank not in chosen)}"
    return [Shown(kind, rank, chosen[rank]) for rank in RANKS if rank in chosen], said + "."


def captions(shown: Sequence[Shown], words: Words) -> dict[str, Caption]:
    """File -> caption. Raises InvalidSettings for all that are missing, of another image, or of no place in the gallery."""
    faults, found = [], {}
    for one in shown:
        caption = words.captions.get(one.kind, {}).get(one.rank)
        if caption is None:
            faults.append(f"{one.kind}, {one.rank}: no caption for {one.held.id}")
        elif caption.image != one.held.id:
            faults.append(f"{one.kind}, {one.rank}: shows {one.held.id}, its caption is of {caption.image}")
        else:
            found[one.file] = caption
    places = {(one.kind, one.rank) for one in shown}
    faults += [
        f"{k}, {r}: a caption, but no image" for k in words.captions for r in words.captions[k] if (k, r) not in places
    ]
    if faults:
        raise InvalidSettings(f"captions: {'; '.join(faults)} (--draft shows the images and a file to fill in)")
    return found


def strip(held: Held, edge: int = _EDGE) -> Image.Image:
    """Input, prediction, truth and error side by side, the longer edge of each `edge` pixels."""
    parts = []
    for name in PARTS:
        with Image.open(held.report.picture(held.entry, name)) as image:
            part = image.convert("RGB")
        share = edge / max(part.size)
        size = max(1, round(part.width * share)), max(1, round(part.height * share))
        parts.append(part.resize(size, Image.Resampling.LANCZOS))
    width = sum(part.width for part in parts) + _GAP * (len(parts) - 1)
    made = Image.new("RGB", (width, max(part.height for part in parts)), "white")
    across = 0
    for part in parts:
        made.paste(part, (across, 0))
        across += part.width + _GAP
    return made


def encoded(strips: Mapping[str, Image.Image], budget: int = BUDGET) -> dict[str, bytes]:
    """Name -> WebP of the best quality at which all of them stay within `budget` bytes. Raises InvalidSettings where none does."""
    for quality in QUALITIES:
        blobs = {}
        for name, image in strips.items():
            target = BytesIO()
            image.save(target, "WEBP", quality=quality, method=6)
            blobs[name] = target.getvalue()
        if sum(map(len, blobs.values())) <= budget:
            return blobs
    raise InvalidSettings(f"pictures: {len(strips)} strips do not fit into {budget} bytes: name fewer failures")


def find(reports: Sequence[Report], name: str) -> Held:
    """The image or scene of an id. Raises InvalidSettings."""
    for report in reports:
        for entry in (*report.document["images"], *report.document["scenes"]):
            if entry["id"] == name:
                return Held(report, entry)
    raise InvalidSettings(f"failures: no report has an image or scene {name!r}")


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files, and take away the pictures of an earlier card."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, blob in files.items():
        (folder / name).write_bytes(blob)
    for path in folder.iterdir():
        if path.suffix in (".webp", ".svg") and path.name not in files:
            path.unlink()
