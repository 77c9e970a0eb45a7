"""`Evaluated`: how an evaluation ended, in values small enough for a task, a terminal or a machine; all else is in report.json."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from catalogs.pair_columns import QUALITIES
from flows.evaluate_bounds import Bound, Verdict, judge, widest
from pipeline.report_methods import METRICS, Methods, overall
from pipeline.report_page import leaks

SHOWN = ("psnr", "ssim_valid", "cc", "rmse")
"""Scores of the checkpoint that are printed, over all pixels."""
LISTED = 20
"""Lines about what was left out that are printed; all is in the report."""
_METRICS = {metric.key: metric for metric in METRICS}
_KEPT = ("protocol", "bands", "region", "method", "images", "groups", "mean", "low", "high")


@dataclass(frozen=True)
class Evaluated:
    """An evaluation that came to its end."""

    report: str
    """report.json."""
    page: str
    """report.html."""
    checkpoint: Mapping[str, Any]
    """Name, digest and size of what was scored."""
    split: str
    split_hash: str
    chips: Mapping[str, Any]
    """`rows` of the split, how many were `used`, how many are `unread` because of their files, and `left_out` with their reasons."""
    methods: tuple[str, ...]
    """The checkpoint, those compared with it, and the baselines."""
    scores: tuple[Mapping[str, Any], ...]
    """Rows of the report over all covers, skies and grounds, in the widest bands of each protocol."""
    verdicts: tuple[Verdict, ...] = ()
    leaks: tuple[str, ...] = ()
    """A line for each checkpoint that was trained on groups on which it is scored."""
    predictions: str = ""
    """Folder of the predictions; empty where none were asked for."""
    files: int = 0
    """Predictions written."""
    older_files: int = 0
    """GeoTIFFs in that folder which this run did not write."""
    scenes: tuple[Mapping[str, Any], ...] = ()
    """Whole scenes that were declouded: `id`, `cover`, and the RMSE under cloud of each method, `rmse`."""
    seconds: float = 0.0

    @property
    def missed(self) -> tuple[Verdict, ...]:
        """Bounds that are not reached."""
        return tuple(verdict for verdict in self.verdicts if not verdict.reached)

    @property
    def faults(self) -> tuple[str, ...]:
        """Why it did not end well, a line each: bounds that are missed, and rows whose files are missing or damaged."""
        unread = self.chips["unread"]
        lost = f"{unread} of {self.chips['rows']} rows could not be read: the scores are those of the rest; mend their files, or catalogue them anew"
        return (*(verdict.line for verdict in self.missed), *((lost,) if unread else ()))

    @property
    def headline(self) -> str:
        """What was scored on what."""
        return f"{self.methods[0]} on {self.chips['used']} rows of the split {self.split}"

    @property
    def protocols(self) -> tuple[str, ...]:
        """Protocols by which anything was scored, in the report's order."""
        return tuple(dict.fromkeys(row["protocol"] for row in self.scores))

    def score(self, protocol: str, region: str, method: str) -> Mapping[str, Any] | None:
        """The row of a method; None where it was not scored."""
        wanted = (protocol, region, method)
        return next((row for row in self.scores if (row["protocol"], row["region"], row["method"]) == wanted), None)

    def document(self) -> dict[str, Any]:
        """For machines."""
        return {
            "report": self.report,
            "page": self.page,
            "checkpoint": dict(self.checkpoint),
            "split": self.split,
            "split_hash": self.split_hash,
            "chips": dict(self.chips),
            "scores": [dict(row) for row in self.scores],
            "bounds": [verdict.document() for verdict in self.verdicts],
            "predictions": {"folder": self.predictions, "files": self.files, "others": self.older_files}
            if self.predictions
            else None,
            "scenes": [dict(scene) for scene in self.scenes],
            "warnings": list(self.leaks),
            "seconds": self.seconds,
        }

    def table(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Columns and rows: RMSE under cloud of every method, a column a protocol; an empty cell where it says nothing."""
        rows = []
        for method in self.methods:
            found = [self.score(protocol, "cloudy", method) for protocol in self.protocols]
            if any(found):
                rows.append((method, *("" if row is None else _METRICS["rmse"].text(row["mean"]) for row in found)))
        return ("RMSE under cloud", *self.protocols), rows

    def lines(self) -> Iterator[str]:
        """What there is to say below the table."""
        subject = self.methods[0]
        for protocol in self.protocols:
            row = self.score(protocol, "all", subject)
            if row is not None:
                said = ", ".join(f"{_METRICS[key].name} {_METRICS[key].text(row['mean'])}" for key in SHOWN)
                count = f"{row['images']} image{'s' * (row['images'] != 1)} of {row['groups']} group{'s' * (row['groups'] != 1)}"
                yield f"{subject}, {protocol}, all pixels, bands {row['bands']}: {said} ({count})"
        for scene in self.scenes:
            shown = ", ".join(f"{method} {value:.4f}" for method, value in scene["rmse"].items() if value is not None)
            yield f"scene {scene['id']}, RMSE under cloud: {shown or 'not defined'}"
        for line in self.leaks:
            yield f"warning: {line}"
        yield from left_out_lines(self.chips["left_out"])
        for verdict in self.verdicts:
            if verdict not in self.missed:
                yield f"met: {verdict.line}"
        yield f"{self.chips['used']} of {self.chips['rows']} rows of the split {self.split} used"
        if self.predictions:
            older = f", beside {self.older_files} of other runs" if self.older_files else ""
            yield f"predictions {self.predictions} ({self.files} files{older})"
        yield f"report      {self.report}"
        yield f"html        {self.page}"


def summarised(
    document: Mapping[str, Any], report: str, page: str, bounds: Sequence[Bound] = (), **more: Any
) -> Evaluated:
    """What is told of a report: `document` is that of report.json, which lies at `report` and is shown by `page`."""
    methods = Methods.of(document)
    scores = tuple(
        {name: row[name] for name in _KEPT}
        for protocol, bands in widest(document).items()
        for region in ("all", "cloudy")
        for row in overall(document, protocol, bands, region)
    )
    return Evaluated(
        report=report,
        page=page,
        checkpoint=document["checkpoint"],
        split=document["split"],
        split_hash=document["split_hash"],
        chips=document["chips"],
        methods=methods.order,
        scores=scores,
        verdicts=tuple(judge(document, bound) for bound in bounds),
        leaks=leaks(document),
        scenes=tuple(_scene(scene) for scene in document["scenes"]),
        seconds=float(document["seconds"] or 0.0),
        **more,
    )


def left_out_lines(entries: Sequence[Mapping[str, str]]) -> Iterator[str]:
    """What was left out and why: verdicts of the quality gate and reasons that several share counted, all else by name, `LISTED` lines of it.

    >>> entries = [("a", "snow: 90%"), ("b", "snow: 80%"), ("c", "gone"), ("d", "too many"), ("e", "too many")]
    >>> list(left_out_lines([{"id": name, "reason": reason} for name, reason in entries]))
    ['left out by the quality gate: snow 2', 'left out c: gone', 'left out 2: too many']
    """
    verdicts = Counter[str]()
    others: dict[str, list[str]] = {}
    for entry in entries:
        quality = entry["reason"].partition(":")[0]
        if quality in QUALITIES:
            verdicts[quality] += 1
        else:
            others.setdefault(entry["reason"], []).append(entry["id"])
    if verdicts:
        yield "left out by the quality gate: " + ", ".join(f"{name} {verdicts[name]}" for name in sorted(verdicts))
    listed = [f"left out {ids[0] if len(ids) == 1 else len(ids)}: {reason}" for reason, ids in others.items()]
    yield from listed[:LISTED]
    if len(listed) > LISTED:
        yield f"and {len(listed) - LISTED} more, in the report"


def _scene(scene: Mapping[str, Any]) -> dict[str, Any]:
    rmse = {row["method"]: row["mean"]["rmse"] for row in scene["rows"] if row["region"] == "cloudy"}
    return {"id": scene["id"], "cover": scene["cover"], "rmse": rmse}
