"""The results as one SVG: for each line bars of the median work, with a mark at the minimum; readable on a light and a dark page."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from benchmarks.bench.contest import Result
from benchmarks.bench.run import Tally, work

WIDTH, LEFT, RIGHT = 860, 330, 70
BAR, GAP, HEADING = 16, 6, 34
STYLE = (
    "text{font:12px sans-serif;fill:#222}.h{font-weight:bold;font-size:13px}.b{fill:#8aa9c9}.o{fill:#d9822b}"
    ".m{stroke:#222;stroke-width:2}.f{fill:#a33}@media(prefers-color-scheme:dark){text{fill:#ddd}.m{stroke:#ddd}.f{fill:#f88}}"
)


def svg(results: Sequence[Result]) -> str:
    """The drawing. Every line has a scale of its own, from 0; entries called decloud are orange."""
    parts: list[str] = []
    height = 10
    for result in results:
        parts.append(f'<text class="h" x="10" y="{height + 18}">{escape(result.title)}: seconds of work</text>')
        height += HEADING
        longest = max((tally.median(work) or 0.0 for tally in result.tallies.values()), default=0.0) or 1.0
        for tally in result.tallies.values():
            parts += _bar(tally, height, (WIDTH - LEFT - RIGHT) / longest)
            height += BAR + GAP
        height += GAP
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">'
    return f"{head}<style>{STYLE}</style>{''.join(parts)}</svg>\n"


def _bar(tally: Tally, top: int, scale: float) -> list[str]:
    middle = top + BAR - 4
    label = f'<text x="{LEFT - 8}" y="{middle}" text-anchor="end">{escape(tally.label)}</text>'
    median, least = tally.median(work), tally.least(work)
    if median is None or least is None:
        return [label, f'<text class="f" x="{LEFT}" y="{middle}">failed</text>']
    kind = "o" if tally.label.startswith("decloud") else "b"
    return [
        label,
        f'<rect class="{kind}" x="{LEFT}" y="{top}" width="{median * scale:.1f}" height="{BAR}"/>',
        f'<path class="m" d="M{LEFT + least * scale:.1f} {top - 1}v{BAR + 2}"/>',
        f'<text x="{LEFT + median * scale + 6:.1f}" y="{middle}">{median:.2f}</text>',
    ]
