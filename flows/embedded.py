"""The environment in which Prefect runs inside our own process: quiet, offline, out of the way of other installations."""

from __future__ import annotations

import logging
import os
import tempfile
from importlib import metadata
from pathlib import Path

from flows.scene_log import WithoutCredentials


def prepare_environment(*, quiet: bool = False) -> None:
    """Set what Prefect reads when it is first imported; whatever is set already stays.

    A server that is configured (PREFECT_API_URL, or a profile of the user's) is used; else Prefect starts one in this
    process, and keeps its small database in the user's cache.
    """
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    # The first start makes the database: 20 s, the default, are not enough on a small machine.
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")
    # The traceback of what nobody foresaw goes where Prefect's own go, and so do warnings: a GPU that is given up, a file tried again.
    os.environ.setdefault("PREFECT_LOGGING_EXTRA_LOGGERS", "pipeline,srgan")
    # Threads that compute are in no run for Prefect, which complains: `SceneLog` hands on what they warn of.
    os.environ.setdefault("PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW", "ignore")
    # What the scenes have to say is in their artifacts and on our own screen.
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "ERROR" if quiet else "INFO")
    if "PREFECT_HOME" not in os.environ and not _configured():
        os.environ["PREFECT_HOME"] = str(_home())


class OneLine(logging.Filter):
    """Lets errors of the expected kinds through as one line, without the traceback that Prefect adds to each."""

    def __init__(self, *expected: type[BaseException]) -> None:
        super().__init__()
        self.expected = expected

    def filter(self, record: logging.LogRecord) -> bool:
        """Always True: nothing is held back but the traceback."""
        error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
        if isinstance(error, self.expected):
            record.msg, record.args, record.exc_info = " ".join(str(error).split()), (), None
        return True


def plain_errors(*expected: type[BaseException]) -> None:
    """Have Prefect's run loggers tell errors of these kinds in one line, and no credentials in any."""
    for name in ("prefect.flow_runs", "prefect.task_runs"):
        logger = logging.getLogger(name)
        # A flow inside another one adds its kinds: those of the outer one may still come.
        kinds = set(expected)
        for old in [one for one in logger.filters if isinstance(one, OneLine | WithoutCredentials)]:
            kinds |= set(old.expected) if isinstance(old, OneLine) else set()
            logger.removeFilter(old)
        logger.addFilter(OneLine(*sorted(kinds, key=str)))
        logger.addFilter(WithoutCredentials())


def _configured() -> bool:
    """Whether the user has set Prefect up."""
    own = Path("~/.prefect/profiles.toml").expanduser()
    return own.is_file() or "PREFECT_API_URL" in os.environ or "PREFECT_PROFILES_PATH" in os.environ


def _home() -> Path:
    """A folder of ours for this version of Prefect: another version's database may not fit."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    home = cache / "decloud" / f"prefect-{metadata.version('prefect')}"
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError:
        return Path(tempfile.mkdtemp(prefix="decloud-prefect-"))
    return home if os.access(home, os.W_OK) else Path(tempfile.mkdtemp(prefix="decloud-prefect-"))
