"""Whole SEN12MS-CR chips for the tests of the clouds."""

from __future__ import annotations

from pathlib import Path

import rasterio
import torch
from torch import Tensor


def chip(shared_data: Path, season: str, patch: str, *, cloudy: bool = False) -> Tensor:
    """One side of a pair, reflectance (13, 256, 256): `chip(data, "1158_spring", "39_p500")`."""
    side = "s2_cloudy" if cloudy else "s2"
    name = f"ROIs{season}_{side}"
    file = shared_data / "SEN12MSCR" / name / f"{side}_{patch.split('_')[0]}" / f"{name}_{patch}.tif"
    with rasterio.open(file) as image:
        return torch.from_numpy(image.read().astype("float32") / 1e4)
