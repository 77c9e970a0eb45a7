"""`SceneSummary` and `RunSummary`: how scenes ended, as numbers that a table, an artifact or a machine can take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from flows.times import StageTimes
from pipeline.address import address
from pipeline.journal import GOOD

if TYPE_CHECKING:
    from pipeline.journal import State
    from pipeline.runner import SceneOutcome

_MUCH = 0.2
"""Share of a product that may be made up without a word."""
SHOWN = ("observed", "blended", "restored", "generated", "refused")
"""Provenance classes in tables; nodata is no share of a picture."""


@dataclass(frozen=True)
class Figures:
    """What a product's item says about it."""

    provenance: Mapping[str, float] = field(default_factory=dict)
    """Class -> share of the pixels with data, 0..1."""
    seam_score: float | None = None
    """Gradient at tile borders against elsewhere; 1 = no seam, None where nothing was restored."""
    thumbnail: str = ""
    """Path or URL of the small picture, before and after."""
    remark: str = ""
    """What to know before it is used: much of it is made up, or none of the other dates was used, where there were some."""
    run_key: str = ""
    """64 hexadecimal digits."""
    times: StageTimes = field(default_factory=StageTimes)
    """Where the time of the run that made it went."""


@dataclass(frozen=True)
class SceneSummary:
    """How one scene ended."""

    scene: str
    """Id of the source item."""
    name: str
    """What a person calls it: `33TWL 2023-08-10`."""
    state: State
    reason: str = ""
    seconds: float = 0.0
    product: str = ""
    """Path of the product's item, where there is one."""
    figures: Figures = field(default_factory=Figures)

    @property
    def good(self) -> bool:
        """True where the product is there."""
        return self.state in GOOD

    @property
    def product_id(self) -> str:
        """Id of the product, empty where there is none."""
        return self.product.rpartition("/")[2].removesuffix(".json")

    @property
    def line(self) -> str:
        """One line for a log."""
        if not self.good:
            return f"{self.state}: {self.reason}"
        if self.state == "unchanged" and self.reason:
            return f"unchanged: {self.reason}"
        if self.state == "unchanged":
            return f"unchanged: {self.product} was made by the same run before"
        shares = ", ".join(f"{name} {share}" for name, share in shares_shown(self.figures).items() if share != "0 %")
        remark = f"; {self.figures.remark}" if self.figures.remark else ""
        limit = f" ({self.figures.times.said})" if self.figures.times.said else ""
        return f"done in {self.seconds:.1f} s{limit}: {shares}{remark}"


@dataclass(frozen=True)
class RunSummary:
    """How a run ended."""

    run: str
    """Id of the run, the stem of its journal; empty where there was nothing to do."""
    output: str
    scenes: tuple[SceneSummary, ...] = ()
    problems: tuple[str, ...] = ()
    """What the catalogue or an item names and could not be read."""
    note: str = ""
    """Why there are no scenes, where there are none."""

    @property
    def failed(self) -> bool:
        """True where a scene has no product, or part of the catalogue could not be read."""
        return bool(self.problems) or not all(scene.good for scene in self.scenes)

    @property
    def headline(self) -> str:
        """How many of what."""
        if not self.scenes:
            return self.note or "nothing to do"
        counts = {
            state: sum(scene.state == state for scene in self.scenes)
            for state in ("done", "unchanged", "failed", "invalid", "interrupted")
        }
        ended = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
        unread = (
            f"; {len(self.problems)} {'file or item' if len(self.problems) == 1 else 'files or items'} could not be read"
            if self.problems
            else ""
        )
        return f"{len(self.scenes)} scene{'s' if len(self.scenes) > 1 else ''}: {ended}{unread}"

    def document(self) -> dict[str, Any]:
        """JSON types only."""
        return asdict(self) | {"failed": self.failed}


def summarize(outcome: SceneOutcome, name: str) -> SceneSummary:
    """The summary of a scene that ended; its figures are those of the product's item."""
    product = outcome.product
    if product is None:
        return SceneSummary(outcome.scene, name, outcome.state, outcome.reason, outcome.seconds)
    thumbnail = product.item["assets"].get("thumbnail", {}).get("href")
    figures = Figures(
        dict(product.provenance),
        product.item["properties"].get("declouder:seam_score"),
        address(product.folder / thumbnail) if thumbnail else "",
        "; ".join(filter(None, (_made_up(product.provenance), _unused(product.item["properties"])))),
        str(product.item["properties"].get("declouder:run_key", "")),
        StageTimes.of(product.item["properties"]),
    )
    return SceneSummary(
        outcome.scene, name, outcome.state, outcome.reason, outcome.seconds, address(product.path), figures
    )


def _made_up(provenance: Mapping[str, float]) -> str:
    """What to say where much of a product was seen on no date.

    >>> _made_up({"observed": 0.6, "generated": 0.4}), _made_up({"observed": 0.9, "generated": 0.1})
    ('40% of it was clear on no date and is made up: see provenance 4', '')
    """
    share = provenance.get("generated", 0.0)
    return f"{share:.0%} of it was clear on no date and is made up: see provenance 4" if share > _MUCH else ""


def _unused(properties: Mapping[str, Any]) -> str:
    """Why a product was made without any of the other dates that there were.

    >>> skipped = [{"id": "B", "reason": "cloudy where it is needed"}]
    >>> _unused({"declouder:references": [], "declouder:references_skipped": skipped})
    'no other date was used: B: cloudy where it is needed'
    """
    skipped = properties.get("declouder:references_skipped") or []
    if properties.get("declouder:references") or not skipped:
        return ""
    # Items of older products have a mapping, id -> reason.
    entries = skipped.items() if isinstance(skipped, Mapping) else ((entry["id"], entry["reason"]) for entry in skipped)
    return "no other date was used: " + "; ".join(f"{name}: {reason}" for name, reason in sorted(entries))


def shares_shown(figures: Figures) -> dict[str, str]:
    """Provenance class -> per cent as text; what is there but rounds to nothing says so.

    >>> shares_shown(Figures({"observed": 0.9996, "blended": 0.0004}))["blended"]
    '<0.1 %'
    """
    return {name: _percent(figures.provenance.get(name, 0.0)) for name in SHOWN}


def _percent(share: float) -> str:
    if share == 0:
        return "0 %"
    return "<0.1 %" if share < 0.001 else f"{share:.1%}".replace("%", " %")
