"""What a run leaves in Prefect: a page for each scene, with its numbers and its picture, and a table of the run."""

from __future__ import annotations

import base64
import re
from pathlib import Path

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from flows.summary import RunSummary, SceneSummary, shares_shown


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
            **shares_shown(scene.figures),
            "seam": scene.figures.seam_score,
            "product": scene.product,
            "reason": scene.reason,
        }
        for scene in summary.scenes
    ]
    rows += [{"scene": "", "state": "unreadable", "reason": problem} for problem in summary.problems]
    create_table_artifact(table=rows, key="decloud-run", description=f"{summary.output}: {summary.headline}")


def scene_page(scene: SceneSummary) -> str:
    """Markdown: what became of the scene, in numbers and as a picture (before | after)."""
    lines = [f"# {scene.name}", "", f"**{scene.state}** in {scene.seconds:.1f} s: `{scene.scene}`", ""]
    if scene.reason:
        lines += [f"> {scene.reason}", ""]
    if scene.product:
        lines += ["| pixels | share |", "|---|---:|"]
        lines += [f"| {name} | {share} |" for name, share in shares_shown(scene.figures).items()]
        if scene.figures.seam_score is not None:
            lines += [f"| seam score | {scene.figures.seam_score:.2f} |"]
        lines += ["", f"Product: `{scene.product}`", ""]
    if scene.figures.thumbnail:
        # Pictures live in Prefect's database, so only the small one goes there.
        picture = base64.b64encode(Path(scene.figures.thumbnail).read_bytes()).decode("ascii")
        lines += [f"![before and after](data:image/png;base64,{picture})", ""]
    return "\n".join(lines)


def artifact_key(text: str) -> str:
    """`text` with what Prefect allows in a key: lower-case letters, digits and dashes.

    >>> artifact_key("scene-S2B_33TWL_20230810_0_L2A")
    'scene-s2b-33twl-20230810-0-l2a'
    """
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
