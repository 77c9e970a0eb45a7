"""`Machine`: where it was measured, without its name."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
import rasterio

PACKAGES = ("torch", "numpy", "rasterio", "dask")


@dataclass(frozen=True)
class Machine:
    """What the figures depend on."""

    processor: str
    cores: int
    """That this process may use."""
    memory: int
    """Bytes."""
    system: str
    python: str
    versions: dict[str, str]
    """Of GDAL and of the packages that matter, in the product's environment."""
    load: tuple[float, float, float]
    """Load averages over 1, 5 and 15 minutes at the start: above 1 or so, others were at work."""

    @classmethod
    def here(cls) -> Machine:
        """This machine, now."""
        versions = {name: importlib.metadata.version(name) for name in PACKAGES}
        return cls(
            _processor(),
            len(os.sched_getaffinity(0)),
            psutil.virtual_memory().total,
            platform.system(),
            platform.python_version(),
            {"GDAL": rasterio.__gdal_version__, **versions},
            os.getloadavg(),
        )

    def words(self) -> str:
        """In one line.

        >>> Machine("Some CPU", 2, 8 * 2**30, "Linux", "3.11.7", {"GDAL": "3.9"}, (0.5, 0.2, 0.1)).words()
        'Some CPU, 2 cores, 8 GiB, Linux; Python 3.11.7, GDAL 3.9; load at the start 0.5'
        """
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        return (
            f"{self.processor}, {self.cores} cores, {self.memory / 2**30:.0f} GiB, {self.system}; "
            f"Python {self.python}, {versions}; load at the start {self.load[0]:.1f}"
        )

    def to_json(self) -> dict[str, Any]:
        """All fields."""
        return asdict(self)


def _processor() -> str:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else platform.machine()
