"""Error of restored pixels against other dates of tile 33TWL, with references and without.

    decloud run --catalog CAT --aoi 15.2,45.2,16.2,45.9 --dates 2023-08-01/2023-08-31 --output WITH
    decloud run ... --dates 2023-08-10/2023-08-10 --references 0 --max-generated 1 --output WITHOUT      (and 2023-08-18)
    python benchmarks/other_dates.py --data ../shared/data --restored WITH --alone WITHOUT

RMSE in reflectance over B02, B03, B04 and B08, on the pixels that WITH replaced in full (provenance 3 and 4) and that the
SCL of the other date calls clear (4, 5, 6). The other date may have been a reference: a date that was held out is in
`tests/pipeline/test_main_job.py`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import rasterio

BANDS = ("B02", "B03", "B04", "B08")


def pixels(path: Path) -> np.ndarray:
    with rasterio.open(path) as file:
        return file.read(1)


def rmse(folder: Path, truth: Path, where: np.ndarray) -> float:
    difference = [pixels(folder / f"{b}.tif")[where].astype(float) - pixels(truth / f"{b}.tif")[where] for b in BANDS]
    return float(np.sqrt(np.mean(np.square(difference)))) * 1e-4


def only(folder: Path, day: str) -> Path:
    [found] = folder.glob(f"S2?_33TWL_202308{day}_*")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--restored", type=Path, required=True)
    parser.add_argument("--alone", type=Path, required=True)
    arguments = parser.parse_args()
    scenes = arguments.data / "stac/earth-search/sentinel-2-l2a"
    for day in ("10", "18"):
        product = only(arguments.restored, day)
        replaced = np.isin(pixels(product / "provenance.tif"), [3, 4])
        for other in ("13", "15"):
            truth = only(scenes, other)
            where = replaced & np.isin(pixels(truth / "SCL.tif"), [4, 5, 6])
            print(
                f"2023-08-{day} against 2023-08-{other}: {rmse(product, truth, where):.4f} with references, "
                f"{rmse(only(arguments.alone, day), truth, where):.4f} without, "
                f"{rmse(only(scenes, day), truth, where):.4f} cloudy input, {where.sum()} pixels"
            )


if __name__ == "__main__":
    main()
