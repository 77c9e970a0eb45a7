"""`Bound`: a score that an evaluation has to reach, for pipelines: `psnr=27`, `pair.cloudy.rmse=0.06`.

A bound is judged on one row of the report: the mean over the images of a protocol in a region, in the widest set of bands, over all
covers and grounds. Scores that are better when they are higher go with --fail-below, those that are better when they are lower with
--fail-above. A score that is not defined, or a row that is not there, has not reached its bound.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.errors import InvalidSettings
from pipeline.report_methods import METRICS, REGIONS, Methods, overall, settings_of

Side = Literal["below", "above"]
PROTOCOLS = ("pair", "pair+1 date", "pair+dates", "synthetic", "synthetic+dates", "seed")
"""Those of `pipeline.cases`, which takes torch to import; a test compares the two."""
_BETTER = {metric.key: metric.better for metric in METRICS}
_SHORT = {"ssim": "ssim_valid"}
"""Names that mean another: SSIM without padding, as torchmetrics and scikit-image compute it."""
_FORM = "write [PROTOCOL.][REGION.]METRIC=VALUE, like psnr=27 or pair.cloudy.rmse=0.06"


@dataclass(frozen=True)
class Bound:
    """One score and what it has to be."""

    metric: str
    value: float
    side: Side
    """`below`: fails where the score is below `value`; `above`: where it is above."""
    protocol: str = "pair"
    region: str = "all"

    @property
    def text(self) -> str:
        """What was asked, as on the command line."""
        return f"--fail-{self.side} {self.protocol}.{self.region}.{self.metric}={self.value:g}"


@dataclass(frozen=True)
class Verdict:
    """How a bound and a report go together."""

    bound: Bound
    found: float | None
    """The score; None where it is not defined."""
    images: int
    """Images that it is the mean of."""
    bands: str = ""
    """Name of the band set; empty where there is no such row."""

    @property
    def reached(self) -> bool:
        """Whether the score is as good as was asked."""
        if self.found is None:
            return False
        return self.found >= self.bound.value if self.bound.side == "below" else self.found <= self.bound.value

    @property
    def line(self) -> str:
        """One line that names what was reached and what was asked."""
        bound = self.bound
        what = f"{bound.metric} of {bound.protocol}, {bound.region} pixels"
        if not self.bands:
            return f"{bound.text}: no image was scored by that protocol"
        over = f"mean of {self.images} image{'s' * (self.images != 1)}, bands {self.bands}"
        if self.found is None:
            return f"{bound.text}: {what} is not defined ({over})"
        return f"{bound.text}: {what} is {self.found:.5g}, asked was {bound.value:g} ({over})"

    def document(self) -> dict[str, Any]:
        """For machines."""
        bound = self.bound
        return {
            "protocol": bound.protocol, "region": bound.region, "metric": bound.metric, "side": bound.side,
            "asked": bound.value, "found": self.found, "images": self.images, "bands": self.bands, "reached": self.reached,
        }  # fmt: skip


def parse_bound(text: str, side: Side) -> Bound:
    """The bound that `text` writes down. Raises InvalidSettings, naming the option.

    >>> parse_bound("pair.cloudy.psnr=20", "below")
    Bound(metric='psnr', value=20.0, side='below', protocol='pair', region='cloudy')
    >>> parse_bound("synthetic.ssim=0.8", "below").text
    '--fail-below synthetic.all.ssim_valid=0.8'
    """
    option = f"--fail-{side} {text}"
    name, sign, number = text.partition("=")
    if not sign:
        raise InvalidSettings(f"{option}: {_FORM}")
    *places, metric = (part.strip() for part in name.split("."))
    chosen = _known(_SHORT.get(metric, metric), tuple(_BETTER), "metric", option)
    if (_BETTER[chosen] == "high") != (side == "below"):
        other, better = ("above", "lower") if side == "below" else ("below", "higher")
        raise InvalidSettings(f"{option}: {metric} is better when it is {better}: write --fail-{other} {text}")
    where: dict[str, str] = {}
    for place in places:
        _known(place, (*PROTOCOLS, *REGIONS), "protocol or region", option)
        kind = "protocol" if place in PROTOCOLS else "region"
        if kind in where:
            raise InvalidSettings(
                f"{option}: names two {kind}s, {where[kind]} and {place}: give one --fail-{side} for each"
            )
        where[kind] = place
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InvalidSettings(f"{option}: {number.strip()!r} is no number: {_FORM}")
    return Bound(chosen, value, side, **where)


def judge(document: Mapping[str, Any], bound: Bound) -> Verdict:
    """Hold `bound` against a report: the scores of the checkpoint that it is about."""
    bands = widest(document).get(bound.protocol, "")
    method = Methods.of(document).subject
    rows = [row for row in overall(document, bound.protocol, bands, bound.region) if row["method"] == method]
    if not rows:
        return Verdict(bound, None, 0)
    found = rows[0]["mean"].get(bound.metric)
    return Verdict(bound, None if found is None else float(found), int(rows[0]["images"]), bands)


def widest(document: Mapping[str, Any]) -> dict[str, str]:
    """Protocol -> the set of most bands that was scored by it, in the report's order."""
    found: dict[str, str] = {}
    for protocol, bands in settings_of(document):
        if protocol not in found or int(bands) > int(found[protocol]):
            found[protocol] = bands
    return found


def _known(name: str, names: Sequence[str], what: str, option: str) -> str:
    if name not in names:
        near = difflib.get_close_matches(name, names, 1, 0.5)
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(names)}"
        raise InvalidSettings(f"{option}: {name!r} is no {what}: {hint}")
    return name
