"""Contact sheet of the synthetic clouds: real clear chips under every kind of sky, beside real cloudy images.

    pip install declouder[s2cloudless]
    python benchmarks/cloud_sheet.py --data ../shared/data --output docs/clouds.png

Upper line of a chip: B04 B03 B02. Lower line: B12 B11 B04, in which cloud of water is white to cyan, cloud of ice blue and vegetation green.
Both with one stretch for the whole sheet.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import rasterio
import torch
from PIL import Image, ImageDraw
from s2cloudless import S2PixelCloudDetector

from srgan.clouds import Clouded, add_clouds, random_sky
from srgan.transplant import estimate, paste

CHIPS = (
    ("1158_spring", "39_p500"),
    ("1868_summer", "102_p100"),
    ("1868_summer", "100_p840"),
    ("1970_fall", "136_p500"),
)
"""Clear sides, whose ROIs lie in four landscapes."""

DONORS = (
    ("1158_spring", "39_p838"),
    ("1970_fall", "136_p840"),
    ("1158_spring", "39_p500"),
    ("1868_summer", "100_p840"),
)
"""Pairs whose clouds are transplanted, one to each chip."""

REAL = (
    ("1158_spring", "39_p500"),
    ("1158_spring", "39_p838"),
    ("1970_fall", "136_p840"),
    ("1970_fall", "136_p309"),
    ("1868_summer", "102_p500"),
    ("2017_winter", "102_p926"),
)
"""Cloudy sides to compare with: cumulus, cumulus, cumulus over snow-free taiga, overcast, cirrus, cirrus."""

KINDS = ("haze", "broken", "overcast", "cirrus")
TILE, LINE = 160, 14


def read(data: Path, season: str, patch: str, side: str) -> torch.Tensor:
    name = f"ROIs{season}_{side}"
    with rasterio.open(data / "SEN12MSCR" / name / f"{side}_{patch.split('_')[0]}" / f"{name}_{patch}.tif") as file:
        return torch.from_numpy(file.read().astype(np.float32) / 1e4)


def picture(image: torch.Tensor, bands: tuple[int, int, int], white: float) -> Image.Image:
    values = (image[list(bands)].permute(1, 2, 0).numpy() / white).clip(0, 1) ** (1 / 1.5)
    return Image.fromarray((values * 255).round().astype(np.uint8)).resize((TILE, TILE), Image.Resampling.BOX)


def both(image: torch.Tensor) -> Image.Image:
    """Visible above short-wave infrared."""
    tile = Image.new("RGB", (TILE, 2 * TILE))
    tile.paste(picture(image, (3, 2, 1), 0.8), (0, 0))
    tile.paste(picture(image, (12, 11, 3), 0.7), (0, TILE))
    return tile


def sky(image: torch.Tensor, kind: str, seed: int) -> Clouded:
    generator = torch.Generator().manual_seed(seed)
    return add_clouds(image[None], torch.ones(1, 1, *image.shape[1:]), [random_sky(generator, kind)], [generator])


def transplanted(data: Path, donor: tuple[str, str], image: torch.Tensor) -> Clouded:
    cloudy, clear = read(data, *donor, "s2_cloudy"), read(data, *donor, "s2")
    detector = S2PixelCloudDetector(threshold=0.4, all_bands=True, average_over=2, dilation_size=3)
    mask = torch.from_numpy(detector.get_cloud_masks(cloudy.permute(1, 2, 0).numpy()[None]).astype(np.float32))
    return paste([estimate(cloudy, clear, mask)], image[None], torch.ones(1, 1, *image.shape[1:]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=Path("docs/clouds.png"))
    parser.add_argument("--seed", type=int, default=300)
    arguments = parser.parse_args()
    titles = ("real, clear", *KINDS, "transplant")
    sheet = Image.new("RGB", (len(titles) * TILE, LINE + (len(CHIPS) + 1) * 2 * TILE + LINE), "white")
    draw = ImageDraw.Draw(sheet)
    for column, title in enumerate(titles):
        draw.text((column * TILE + 4, 1), title, fill="black")
    for row, (chip, donor) in enumerate(zip(CHIPS, DONORS, strict=True)):
        clear = read(arguments.data, *chip, "s2")
        cells = [clear]
        cells += [sky(clear, kind, arguments.seed + 10 * row + number).image[0] for number, kind in enumerate(KINDS)]
        cells.append(transplanted(arguments.data, donor, clear).image[0])
        for column, cell in enumerate(cells):
            sheet.paste(both(cell), (column * TILE, LINE + row * 2 * TILE))
    top = LINE + len(CHIPS) * 2 * TILE
    draw.text((4, top + 1), "real, cloudy", fill="black")
    for column, chip in enumerate(REAL):
        sheet.paste(both(read(arguments.data, *chip, "s2_cloudy")), (column * TILE, top + LINE))
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    sheet.quantize(256, kmeans=2, dither=Image.Dither.NONE).save(arguments.output, optimize=True)
    print(f"{arguments.output}: {sheet.width} x {sheet.height}, {arguments.output.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
