"""The pages of the documentation, as tests look at them: fenced blocks, commands, links."""

from __future__ import annotations

import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio

from pipeline.simulation.simulate import Simulated
from tests.pipeline.made import write_raster
from tests.pipeline.test_safe_scene import filled_safe

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))))


SERVER = "starts servers: tests/integration does, on ports of its own"
NOT_RUN = {
    r"make demo|decloud demo --output demo": "two minutes: tests/flows/test_decloud_flow.py runs a smaller one",
    r"make test( PYTEST=.*)?": "runs this",
    r"python -m tests\.hostile\.table": "rewrites a page: tests/hostile runs its lines",
    r"python -m tests\.hostile\.fuzz .*": "an hour: tests/hostile/test_fuzz.py runs some thousand inputs",
    r"make faults.*": "half an hour: `make test` runs tests/faults with fewer kills",
    r"make (server|deploy)": SERVER,
    r"make bench.*|python -m benchmarks\.bench .*": "an hour or two: tests/benchmarks looks at its parts",
    r"decloud (plan|run|backfill) --catalog (earth-search|planetary-computer) .*": "asks a server in the network; options are parsed below",
    r"decloud run .* --prefect": "starts a server: tests/flows/test_decloud_flow.py",
    r"decloud run .* --checkpoint best\.pt2 .*": "needs the export: tests/pipeline/test_exported.py",
    r"decloud train .*": "hours: tests/flows/test_train.py runs a short one, goes on with it and uses it",
    r"decloud export .*": "tests/flows/test_export.py",
    r"decloud evaluate .*": "minutes: tests/flows/test_evaluate.py runs them on made pairs",
    r"decloud pairs SEN12MSCR(TS)? .* --splits .*|decloud pairs stac/.*": "other trees and minutes: tests/flows/test_pairs.py",
    r"torchrun .*": "needs GPUs: tests/srgan/test_trainer.py runs two processes",
    r"python -m srgan\.calibration .*": "needs a training: tests/srgan/test_attainable.py and test_card.py",
    r"pip install .*": "changes the environment",
    r"export [A-Z_]+=.*": "goes with the command after it",
    r"createdb .*": "needs PostgreSQL: tests/integration makes one of its own",
    r"(\.venv/bin/)?prefect .*|docker run .*": SERVER,
    r"\.venv/bin/decloud status out": "is `decloud status out`, which is run, in the environment that make made",
    r"(CUDA_VISIBLE_DEVICES=0 )?dask (cuda worker|worker|scheduler) .*": "starts a cluster: tests/pipeline/clusters.py does",
}
"""Pattern of commands that are not run here -> why."""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    language: str
    text: str


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(*languages: str, page: str | None = None) -> list[Block]:
    """All fenced blocks of these languages, of one page or of all, in their order."""
    pattern = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    return [
        Block(name, language, text)
        for name in ([page] if page else PAGES)
        for language, text in pattern.findall(text_of(name))
        if language in languages
    ]


def commands() -> list[tuple[str, str]]:
    """(page, command as printed, without its comment) of every command of every `sh` block, where one may go over several lines, and of indented ones."""
    found = []
    for block in blocks("sh"):
        begun = ""
        for line in block.text.splitlines():
            begun += f"\n{line}" if begun else line
            if line.endswith("\\") or not _closed(begun):
                continue
            if words(begun):
                found.append((block.page, re.sub(r"\s+# .*", "", begun).strip()))
            begun = ""
        assert not begun, f"{block.page}: {begun} does not end"
    indented = [
        (page, command) for page in PAGES for command in re.findall(r"^    (decloud .+)$", text_of(page), re.MULTILINE)
    ]
    return [*found, *indented]


def words(command: str) -> list[str]:
    """A command as a shell takes it apart."""
    return shlex.split(command, comments=True)


def inline_commands() -> list[tuple[str, str]]:
    """(page, command) of what begins with `decloud` between backticks in running text."""
    return [
        (page, " ".join(found.split()))
        for page in PAGES
        for found in re.findall(
            r"(?<!`)`(decloud [^`]+)`(?!`)", re.sub(r"^```.*?^```$", "", text_of(page), flags=re.MULTILINE | re.DOTALL)
        )
    ]


def anchors(page: str) -> set[str]:
    """What a link to a heading of `page` may be called."""
    headings = re.findall(
        r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", text_of(page), flags=re.MULTILINE | re.DOTALL), re.MULTILINE
    )
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def _closed(text: str) -> bool:
    try:
        words(text)
    except ValueError:
        return False
    return True


def listed(command: str) -> list[str]:
    """The patterns of `NOT_RUN` that a command fits."""
    return [pattern for pattern in NOT_RUN if re.fullmatch(pattern, command, re.DOTALL)]


RUN = tuple(dict.fromkeys(command for _, command in commands() if not listed(command)))
"""What tests run as printed."""


def fill(home: Path, area: Simulated) -> Path:
    """Put into `home` what the pages speak of, as if `decloud demo --output demo` had been there."""
    shutil.copytree(area.catalogue.parent, home / "demo" / "stac")
    filled_safe(home, "05.09", side=120)
    (source,) = area.catalogue.parent.glob(f"*/{area.items[1]}")
    pixels = {}
    for name in ("B02", "B03", "B04", "B08"):
        shutil.copy(source / f"{name}.tif", home / f"T33TWL_{name}.tif")
        with rasterio.open(source / f"{name}.tif") as file:
            pixels[name], origin = file.read(1), (file.transform.c, file.transform.f)
    write_raster(home / "stack.tif", np.stack(list(pixels.values())), origin=origin)
    cloud = np.zeros(pixels["B02"].shape, np.uint8)
    cloud[60:90, 40:80] = 1
    write_raster(home / "my_clouds.tif", cloud, origin=origin, nodata=None)
    (home / "training").mkdir()
    for kind in ("safetensors", "json"):
        shutil.copy(ROOT / "srgan" / "weights" / f"default.{kind}", home / "training" / f"best.{kind}")
    return home
