"""`Images`: pixels of one real Sentinel-2 scene at native resolutions, or simulated ones, from which larger scenes are made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import rasterio

from pipeline.simulation.simulate import DATES, simulate_area

ITEM = "stac/sentinel2_29RKH/S2A_29RKH_20200219_0_L2A"
"""Twelve bands of L2A at three pixel sizes, without cloud or nodata."""
SIMULATED = 1098
"""Edge of the simulated scene, pixels of 10 m: that of the real one."""


@dataclass(frozen=True)
class Images:
    """Where the bands are."""

    folder: Path
    """Holds `<band>.tif`."""
    real: bool
    """False = simulated."""

    @classmethod
    def find(cls, data: Path, work: Path) -> Images:
        """The real scene in `data`; where that is absent, a simulated one, made once in `work`."""
        if (data / ITEM).is_dir():
            return cls(data / ITEM, real=True)
        home = work / "simulated"
        found = sorted(home.glob("truth/*"))
        if not (home / "stac" / "catalog.json").is_file():
            simulated = simulate_area(home, size=SIMULATED, dates=DATES[:1])
            found = [simulated.truth / simulated.items[0]]
        return cls(found[0], real=False)

    def band(self, name: str) -> npt.NDArray[np.uint16]:
        """uint16 (rows, cols) of a band at its native resolution; no nodata, as 0 is made 1."""
        with rasterio.open(self.folder / f"{name}.tif") as file:
            pixels: npt.NDArray[np.uint16] = np.maximum(file.read(1), 1)
        return pixels
