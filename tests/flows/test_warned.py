"""What the packages warn of reaches whoever runs a command: one line on standard error, whatever else is shown there."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from flows.warned import MOST, OneLineWarnings
from srgan.checkpoint import save_checkpoint
from srgan.spec import ModelSpec
from tests.flows.conftest import MadeScene, on_a_terminal
from tests.srgan.made import lively

# bf16 is there, and never near enough: this machine may have it or not.
BROKEN_PROMISE = """
import sys
import pipeline.precision, srgan.precision
srgan.precision.lacks_bf16 = lambda device: ""
pipeline.precision.SHARE = 1.1
from flows.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def command(scene: MadeScene, tmp_path: Path) -> list[str]:
    """A run whose bf16 is given up."""
    spec = ModelSpec(name="smallest", widths=(8, 8, 12, 12), depths=(1, 1, 1, 1), margin=16, guidance="none")
    model = save_checkpoint(tmp_path / "model.safetensors", lively(spec), {}, dtype=torch.float32)
    asked = ("--checkpoint", model, "--precision", "bf16", "--max-generated", "1", "--workers", "1")
    return [sys.executable, "-c", BROKEN_PROMISE, *map(str, scene.arguments(tmp_path / "out", *asked))]


def test_a_run_that_is_slower_than_asked_says_so_and_json_stays_json(command: list[str]) -> None:
    ended = subprocess.run([*command, "--json", "--quiet"], capture_output=True, text=True, check=False, timeout=250)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["scenes"][0]["state"] == "done"
    warned = [line for line in ended.stderr.splitlines() if line.startswith("warning: ")]
    assert len(warned) == 1, ended.stderr
    assert warned[0].endswith("it is restored in fp32")


def test_a_bar_keeps_the_warning_on_a_line_of_its_own(command: list[str]) -> None:
    text = on_a_terminal(command).replace("\x1b[2K", "\n")
    lines = [line.rsplit("\r", 1)[-1] for line in text.replace("\r\n", "\n").splitlines()]
    begun = [line for line in lines if line.startswith("warning: ")]
    assert len(begun) == 1, text
    assert "bf16 is within 2 DN of fp32 on" in begun[0]
    assert "[1/1] 33UWP 2023-08-10: done in" in text


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    """A logger of a package, as the command line sets it up."""
    logger, handler = logging.getLogger("pipeline.made"), OneLineWarnings()
    logger.addHandler(handler)
    logger.propagate = False
    yield logger
    logger.removeHandler(handler)
    logger.propagate = True


def test_the_same_is_said_once_and_of_a_kind_only_some(
    logger: logging.Logger, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.warned._in_prefects_log", lambda: False)
    for attempt in range(2 * MOST):
        logger.warning("%s: trying again in %d s", "https://me:pw@host/B02.tif?sig=secret", attempt // 2)
    logger.warning("%s: trying\nagain in %d s", "another", 0)
    for attempt in range(10 * MOST):
        logger.warning("%s: trying again in %d s", "B03", attempt)
    logger.info("nobody asked")
    logger.error("a scene says this itself")
    logger.warning("100 % of %s")
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "warning: https://host/B02.tif: trying again in 0 s",
        "warning: https://host/B02.tif: trying again in 1 s",
        "warning: https://host/B02.tif: trying again in 2 s (more of this kind are not shown; --debug shows all)",
        "warning: another: trying again in 0 s",
        "warning: 100 % of %s",
    ]


def test_where_prefect_shows_all_warnings_they_are_not_said_twice(
    logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    from prefect.logging.handlers import PrefectConsoleHandler

    root, console = logging.getLogger(), PrefectConsoleHandler()
    root.addHandler(console)
    try:
        logger.warning("said by Prefect")
    finally:
        root.removeHandler(console)
    assert capsys.readouterr().err == ""
