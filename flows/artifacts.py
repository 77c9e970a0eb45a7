"""What a run leaves in Prefect: a page for each scene, with its numbers and its picture, and a table of the run or the backfill."""

from __future__ import annotations

import base64
import re

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from flows.backfilling import BackfillSummary, count_states
from flows.scene_log import plain
from flows.summary import SHOWN, RunSummary, SceneSummary, shares_shown
from flows.times import StageTimes, seconds
from pipeline.publish import read_file


def publish_scene(scene: SceneSummary) -> None:
    """Make the page of a scene."""
    create_markdown_artifact(
        markdown=scene_page(scene), key=artifact_key(f"scene-{scene.scene}"), description=f"{scene.name}: {scene.state}"
    )


def publish_run(summary: RunSummary) -> None:
    """Make the table of a run. One of a key for all runs: Prefect keeps its versions."""
    rows = [
        {
            "scene": scene.scene,
            "state": scene.state,
            "seconds": round(float(scene.seconds), 1),
            **(
                {f"{name} %": _percent(scene.figures.provenance.get(name, 0.0)) for name in SHOWN}
                if scene.product
                else {}
            ),
            "seam": None if scene.figures.seam_score is None else float(scene.figures.seam_score),
            "limit": scene.figures.times.limit,
            "product": scene.product,
            "reason": plain(scene.reason),
        }
        for scene in summary.scenes
    ]
    rows += [{"scene": "", "state": "unreadable", "reason": plain(problem)} for problem in summary.problems]
    create_table_artifact(table=rows, key="decloud-run", description=f"{summary.output}: {summary.headline}")


def _percent(share: float) -> float:
    """A plain float: Prefect takes no numbers of numpy."""
    return round(100 * float(share), 2)


def publish_backfill(summary: BackfillSummary) -> None:
    """Make the table of a backfill, a row a window; versions as of a run's."""
    rows = [
        {
            "window": line.window,
            "state": line.state,
            "scenes": len(line.scenes),
            **{state: count_states(line).get(state, 0) for state in ("done", "unchanged", "failed", "invalid")},
            "unreadable": len(line.problems),
            "reason": plain(line.reason),
        }
        for line in summary.windows
    ]
    create_table_artifact(table=rows, key="decloud-backfill", description=f"{summary.output}: {summary.headline}")


def scene_page(scene: SceneSummary) -> str:
    """Markdown: what became of the scene, in numbers and as a picture (before | after)."""
    lines = [f"# {scene.name}", "", f"**{scene.state}** in {scene.seconds:.1f} s: `{scene.scene}`", ""]
    if scene.reason:
        lines += [f"> {plain(scene.reason)}", ""]
    if scene.product:
        lines += ["| pixels | share |", "|---|---:|"]
        lines += [f"| {name} | {share} |" for name, share in shares_shown(scene.figures).items()]
        if scene.figures.seam_score is not None:
            lines += [f"| seam score | {scene.figures.seam_score:.2f} |"]
        lines += ["", f"Product: `{scene.product}`", "", *_times(scene.figures.times)]
    if scene.figures.thumbnail:
        # Pictures live in Prefect's database, so only the small one goes there.
        picture = base64.b64encode(read_file(scene.figures.thumbnail)).decode("ascii")
        lines += [f"![before and after](data:image/png;base64,{picture})", ""]
    return "\n".join(lines)


def _times(times: StageTimes) -> list[str]:
    """A table of the stages; nothing where nobody timed them."""
    if not times.stages:
        return []
    rows = [f"| {stage} | {seconds(value)} |" for stage, value in times.stages.items()]
    total = [f"| wall time | {seconds(times.total)} |"] if times.total is not None else []
    end = [f"Stages overlap; {times.said}.", ""] if times.said else []
    return ["| stage | s |", "|---|---:|", *rows, *total, "", *end]


def artifact_key(text: str) -> str:
    """`text` with what Prefect allows in a key: lower-case letters, digits and dashes.

    >>> artifact_key("scene-S2B_33TWL_20230810_0_L2A")
    'scene-s2b-33twl-20230810-0-l2a'
    """
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
