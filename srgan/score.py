"""Score a checkpoint on held-out chips, beside doing nothing and filling with the mean of the clear pixels.

    python -m srgan.score --store STORE --checkpoint default --split test

Cloudy pixels only, whole chips. Real pairs (the truth is another date) and synthetic clouds over the clear dates (the truth is known)
apart; the mean over chips with a 90 % bootstrap interval over chips. Where a chip has no clear pixel, its mean fill is the mean spectrum of the
training chips.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from srgan.checkpoint import load_checkpoint
from srgan.clouds import Layer, Sky, add_clouds
from srgan.generator import Generator
from srgan.metrics import mae, psnr, rmse, sam
from srgan.revisits import grow, harmonise, read
from srgan.spec import BANDS
from srgan.store import CLEAR, CLOUD, NODATA, SHADOW, ChipStore, StoredChip

BAND_SETS = {
    "13 bands": BANDS,
    "10 m bands": ("B02", "B03", "B04", "B08"),
}
METHODS = ("model", "first guess", "mean fill", "identity")
COVERS = (("haze", 0.8, 2.5), ("half", 0.5, 30.0), ("full", 1.0, 40.0))
"""Name, cover and optical thickness of the synthetic cases."""


@dataclass(frozen=True)
class Case:
    """One chip with something to restore."""

    chip: str
    group: str
    kind: str
    """`pair`, or the synthetic case; ` +ref` where another date is given."""
    inputs: tuple[Tensor, ...]
    target: Tensor
    where: Tensor
    """(1, H, W) cloudy pixels whose truth is known."""


def cases(chips: Sequence[StoredChip], bands: Sequence[str]) -> Iterator[Case]:
    """All cases of some chips: each cloudy date beside its nearest clear date, and three synthetic skies over each clear date."""
    for chip in chips:
        edge = chip.masks.shape[-1]
        window = (slice(0, edge), slice(0, edge))
        present = torch.from_numpy(chip.present) * torch.tensor([float(band in bands) for band in BANDS])
        clear = chip.clear_dates()
        for date, share in enumerate(chip.cloud):
            classes = torch.from_numpy(np.array(chip.masks[date]))[None]
            valid, image = (classes != NODATA).float(), read(chip, date, window)
            others = sorted(set(clear) - {date}, key=lambda other: abs(chip.days[other] - chip.days[date]))
            if share > 0.015 and others and chip.kind in ("pair", "series"):
                mask = grow(((classes == CLOUD) | (classes == SHADOW)).float(), 5)
                truth = torch.from_numpy(np.array(chip.masks[others[0]]))[None]
                where = mask * (truth == CLEAR)
                yield _case(chip, "pair", image, present, mask, valid, None, 0, read(chip, others[0], window), where)
                if len(others) > 1:
                    other = _reference(chip, others[1], window, image, mask)
                    days = chip.days[others[1]] - chip.days[date]
                    yield _case(
                        chip,
                        "pair +ref",
                        image,
                        present,
                        mask,
                        valid,
                        other,
                        days,
                        read(chip, others[0], window),
                        where,
                    )
            if date not in clear:
                continue
            for number, (name, cover, thickness) in enumerate(COVERS):
                seed = int.from_bytes(f"{chip.id}/{date}/{number}".encode(), "little") % 2**31
                sky, mask = synthetic(image, valid, cover, thickness, seed)
                mask = torch.maximum(mask, (classes > CLEAR).float())
                where = mask * (classes == CLEAR)
                yield _case(chip, name, sky, present, mask, valid, None, 0, image, where)
                if others:
                    days = chip.days[others[0]] - chip.days[date]
                    other = _reference(chip, others[0], window, sky, mask)
                    yield _case(chip, f"{name} +ref", sky, present, mask, valid, other, days, image, where)


def synthetic(image: Tensor, valid: Tensor, cover: float, thickness: float, seed: int) -> tuple[Tensor, Tensor]:
    """Cloudy image (13, H, W) and grown mask (1, H, W) by the seed."""
    layer = Layer("low", cover, thickness, form="stratus" if cover == 1 or thickness < 5 else "cumulus")
    sky = Sky((layer,), sun_zenith=45, sun_azimuth=150)
    clouded = add_clouds(image[None], valid[None], [sky], [torch.Generator().manual_seed(seed)])
    return clouded.image[0], grow(torch.maximum(clouded.cloud, clouded.shadow)[0], 5)


def mean_fill(case: Case, fallback: Tensor) -> Tensor:
    """The input with its masked pixels replaced by the mean of its clear ones, (13, H, W)."""
    image, mask, valid = case.inputs[0][0], case.inputs[2][0], case.inputs[3][0]
    clear = (mask == 0) & (valid > 0)
    spectrum = image[:, clear[0]].mean(1) if int(clear.sum()) >= 64 else fallback
    return torch.where(mask > 0, spectrum[:, None, None], image)


def train_mean(chips: Sequence[StoredChip]) -> Tensor:
    """Mean reflectance (13,) of the clear pixels of some chips, every chip alike."""
    spectra = []
    for chip in chips:
        for date in chip.clear_dates():
            clear = np.asarray(chip.masks[date]) == CLEAR
            spectra.append(np.asarray(chip.images[date])[:, clear].mean(1) / 1e4 * chip.present)
    return torch.from_numpy(np.mean(spectra, 0).astype(np.float32))


@torch.no_grad()
def score(generator: Generator, store: ChipStore, split: str) -> list[dict[str, Any]]:
    """A row for each band set and kind of case: chips, and RMSE, MAE, PSNR, SAM of each method on cloudy pixels, RMSE with its interval."""
    fallback = train_mean(store.split("train"))
    blank = first_guess_alone(generator)
    rows = []
    for set_name, bands in BAND_SETS.items():
        found: dict[str, dict[str, list[tuple[float, float, float]]]] = {}
        for case in cases(store.split(split), bands):
            if int(case.where.sum()) < 256:
                continue
            chosen = case.inputs[1][0] > 0
            results = {
                "model": generator(*case.inputs).restored[0],
                "first guess": blank(*case.inputs).restored[0],
                "mean fill": mean_fill(case, fallback),
                "identity": case.inputs[0][0],
            }
            for method, result in results.items():
                pair = result[chosen], case.target[chosen]
                entry = tuple(measure(*pair, case.where) for measure in (rmse, mae, sam))
                found.setdefault(case.kind, {}).setdefault(method, []).append(entry)  # type: ignore[arg-type]
        for kind, methods in found.items():
            row: dict[str, Any] = {"bands": set_name, "kind": kind, "chips": len(methods["model"])}
            for method, entries in methods.items():
                table = np.array(entries)
                low, high = bootstrap(table[:, 0])
                row[method] = {
                    "rmse": round(float(table[:, 0].mean()), 5),
                    "rmse_90": [round(low, 5), round(high, 5)],
                    "psnr": round(float(np.mean([psnr(value) for value in table[:, 0]])), 2),
                    "mae": round(float(table[:, 1].mean()), 5),
                    "sam": round(float(np.nanmean(table[:, 2])), 2),
                }
            gains = np.array(methods["mean fill"])[:, 0] - np.array(methods["model"])[:, 0]
            low, high = bootstrap(gains)
            row["gain_on_mean_fill"] = {
                "mean": round(float(gains.mean()), 5),
                "interval_90": [round(low, 5), round(high, 5)],
            }
            rows.append(row)
    return rows


def first_guess_alone(generator: Generator) -> Generator:
    """A generator of the same spectrum whose heads are zero: what is left without the learned correction."""
    blank = Generator(generator.spec).eval()
    with torch.no_grad():
        blank.default.copy_(generator.default)
    return blank


def bootstrap(values: np.ndarray, draws: int = 2000) -> tuple[float, float]:
    """90 % interval of the mean, drawing chips with replacement; the same draws every time."""
    rng = np.random.default_rng(0)
    means = values[rng.integers(0, len(values), (draws, len(values)))].mean(1)
    return float(np.quantile(means, 0.05)), float(np.quantile(means, 0.95))


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as text."""
    lines = [
        f"{'bands':12}{'case':12}{'chips':>6}"
        + "".join(f"{method:>31}" for method in METHODS)
        + "   RMSE [90 %] PSNR dB, cloudy pixels"
    ]
    for row in rows:
        cells = []
        for method in METHODS:
            entry = row[method]
            cells.append(
                f"{entry['rmse']:.4f} [{entry['rmse_90'][0]:.4f}, {entry['rmse_90'][1]:.4f}] {entry['psnr']:5.2f}"
            )
        lines.append(f"{row['bands']:12}{row['kind']:12}{row['chips']:6}" + "".join(f"{cell:>31}" for cell in cells))
    return "\n".join(lines)


def _reference(
    chip: StoredChip, date: int, window: tuple[slice, slice], like: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor]:
    usable = torch.from_numpy(np.array(chip.masks[date]))[None] == CLEAR
    return harmonise(read(chip, date, window), like, usable & (mask == 0)), usable.float()


def _case(
    chip: StoredChip,
    kind: str,
    image: Tensor,
    present: Tensor,
    mask: Tensor,
    valid: Tensor,
    reference: tuple[Tensor, Tensor] | None,
    days: float,
    target: Tensor,
    where: Tensor,
) -> Case:
    rows, cols = image.shape[1:]
    if reference is None:
        stack, usable, when = (
            image.new_zeros(1, 0, 13, rows, cols),
            image.new_zeros(1, 0, 1, rows, cols),
            image.new_zeros(1, 0),
        )
    else:
        stack, usable, when = reference[0][None, None], reference[1][None, None], torch.tensor([[float(days)]])
    inputs = (image[None], present[None], mask[None], valid[None], stack, usable, when)
    return Case(chip.id, chip.group, kind, inputs, target, where * valid)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Score a checkpoint on held-out chips")
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--checkpoint", default="default")
    parser.add_argument("--split", default="test")
    parser.add_argument("--json", type=Path, help="Write the rows here too")
    arguments = parser.parse_args()
    rows = score(load_checkpoint(arguments.checkpoint).generator, ChipStore(arguments.store), arguments.split)
    sys.stdout.write(table(rows) + "\n")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
