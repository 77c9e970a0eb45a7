"""What a run leaves in Prefect: of each scene a page with its numbers and its picture, and a link to its product; of the run or the
backfill a table, and a link to the HTML page of the folder, which is written here too.

Nothing of it is a result, so nothing that goes wrong with it fails a run.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact

from catalogs.hrefs import is_remote
from flows import interrupts, showing
from flows.backfilling import BackfillSummary, count_states
from flows.report import shown, write_report
from flows.scene_log import Log, plain
from flows.summary import SHOWN, RunSummary, SceneSummary, shares_shown
from flows.times import StageTimes, seconds
from pipeline.hrefs import without_credentials
from pipeline.publish import read_file


def attempt(log: Log, what: str, publish: Callable[[], object]) -> None:
    """`publish()`, for which the server is asked once; what goes wrong is a warning, and nothing is tried while the server is away."""
    if showing.silent():
        return
    try:
        with showing.asked_once():
            publish()
    except Exception as error:  # noqa: BLE001 - what is only shown must not turn a good run into a failed one, whatever is wrong with it
        line = f"no {what} in Prefect: {' '.join(str(error).split()) or type(error).__name__}"
        if showing.may_answer(error):
            showing.not_answered()
            line += f"; the server is asked for nothing of that kind for {showing.PAUSE:.0f} s"
        log.warning(plain(line))


def publish_scene(scene: SceneSummary, log: Log) -> None:
    """Make the page of a scene, and the link to its product where there is one."""

    def publish() -> None:
        create_markdown_artifact(
            markdown=scene_page(scene),
            key=artifact_key(f"scene-{scene.scene}"),
            description=f"{scene.name}: {scene.state}",
        )
        if scene.product:
            create_link_artifact(
                link=link_to(scene.product),
                link_text=scene.product_id,
                key=artifact_key(f"product-{scene.scene}"),
                description=f"{scene.name}: {plain(scene.product)}",
            )

    attempt(log, "page", publish)


def publish_page(output: Path, log: Log) -> None:
    """Write report.html into a product folder, and make the link to it."""
    try:
        page = shown(write_report(output, anew=False))
    except KeyboardInterrupt:
        # As in `flows.report.report_after`: everything is published, and the run was not stopped.
        interrupts.forget()
        log.warning("no report.html: interrupted; the products are complete; try `decloud report`")
        return
    except Exception as error:  # noqa: BLE001 - as above
        reason = " ".join(str(error).split()) or type(error).__name__
        log.warning(plain(f"no report.html: {reason}; the products are not touched by that; try `decloud report`"))
        return
    log.info(f"report: {page}")
    attempt(
        log,
        "link to report.html",
        lambda: create_link_artifact(
            link=link_to(page), link_text="report.html", key="decloud-report", description=page
        ),
    )


def link_to(place: str) -> str:
    """The URL of a path or URL, without user, password and query, and so that it can stand in Markdown.

    >>> link_to("/data/out (2)/S2B.json"), link_to("s3://bucket/a b/S2B.json"), link_to("https://me:pw@host/S2B.json?sig=secret")
    ('file:///data/out%20%282%29/S2B.json', 's3://bucket/a%20b/S2B.json', 'https://host/S2B.json')
    """
    return quote(without_credentials(place), safe=":/@%") if is_remote(place) else Path(place).absolute().as_uri()


def publish_run(summary: RunSummary, log: Log) -> None:
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
    said = f"{summary.output}: {summary.headline}"
    attempt(log, "table", lambda: create_table_artifact(table=rows, key="decloud-run", description=said))


def _percent(share: float) -> float:
    """A plain float: Prefect takes no numbers of numpy."""
    return round(100 * float(share), 2)


def publish_backfill(summary: BackfillSummary, log: Log) -> None:
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
    said = f"{summary.output}: {summary.headline}"
    attempt(log, "table", lambda: create_table_artifact(table=rows, key="decloud-backfill", description=said))


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
