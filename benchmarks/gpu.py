"""How fast a GPU restores tiles, how near that is to its own limits, and how near its answers are to a CPU's.

    python benchmarks/gpu.py --trace trace.json                              a GPU: the packaged checkpoint, `small` and `base`
    python benchmarks/gpu.py --device cuda:0,cuda:1 --presets base --batches 16
    python benchmarks/gpu.py --device cpu --presets default --tile 64 --passes 2 --peak-size 256      the same code paths without one

Needs torch, numpy, pydantic and safetensors, and nothing that reads files of pixels. Prints two Markdown tables. The first: tiles a second of the whole
way that a run takes (16-bit tiles in, answers out, through `TorchRestorer`) and of the network alone on inputs that lie on the device, the ratio of the two,
and the share of the device's measured bf16 peak (a large matrix product) that the first comes to. The second: how far answers are from those of a
CPU in fp32 on the pixels under the tiles' masks, which alone are composed, DN. `--trace` writes a profile for chrome://tracing or Perfetto, and says which share of the copies ran beside kernels.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pipeline.device_restorer import TorchRestorer
from srgan.checkpoint import Checkpoint, load_checkpoint
from srgan.feed import Feed
from srgan.generator import Generator, parameter_count
from srgan.restoring import Restoring
from srgan.spec import BANDS, SIZES
from srgan.tile import Bringing, RawTile

FOUR = ("B02", "B03", "B04", "B08")


def made_tiles(count: int, bands: int, dates: int, size: int) -> list[RawTile]:
    """Land of slow waves and noise under half a cloud, as 16-bit numbers; the other dates clear nearly everywhere."""
    rng = np.random.default_rng(0)
    rows, cols = np.mgrid[:size, :size] / 23.0
    levels = np.array([[1e-4] * bands, [0.0] * bands], np.float32)
    one = np.ones(bands, np.float32)
    none = np.zeros(bands, np.float32)
    bringing = Bringing(1.02 * one, -0.002 * one, np.zeros((bands, bands), np.float32), none, none, none)
    tiles = []
    for number in range(count):
        land = 900 + 60 * np.arange(bands)[:, None, None] + 300 * np.sin(rows + number) * np.cos(cols)

        def seen(land: np.ndarray = land) -> np.ndarray:
            return (land + rng.normal(0, 30, land.shape)).clip(1, 9000).astype(np.uint16)

        mask = np.sin(rows / 3 + number) > 0
        tiles.append(
            RawTile(
                np.where(mask, 6000, seen()).astype(np.uint16),
                levels,
                mask,
                np.ones((size, size), np.bool_),
                np.stack([seen() for _ in range(dates)]) if dates else np.zeros((0, bands, size, size), np.uint16),
                np.stack([levels] * dates) if dates else np.zeros((0, 2, bands), np.float32),
                (bringing,) * dates,
                rng.random((dates, size, size)) < 0.97,
                tuple(5.0 * (date + 1) for date in range(dates)),
            )
        )
    return tiles


def model_of(preset: str) -> Checkpoint:
    """A packaged checkpoint, or a network of that size whose weights are drawn."""
    if preset == "default":
        return load_checkpoint(preset)
    torch.manual_seed(0)
    spec = SIZES[preset]()
    generator = Generator(spec).eval().requires_grad_(requires_grad=False)
    for parameter in generator.parameters():
        parameter.add_(torch.randn_like(parameter), alpha=0.02)
    return Checkpoint(preset, spec, generator, "0" * 64, {})


def synchronized(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def peak(device: torch.device, size: int) -> float:
    """TFLOP/s of a bf16 product of two matrices of size x size: the best of five."""
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    best = np.inf
    for _ in range(5):
        start = synchronized(device)
        a @ b
        best = min(best, synchronized(device) - start)
    return 2 * size**3 / best / 1e12


def flops(model: Checkpoint, tile: RawTile, bands: tuple[str, ...]) -> float:
    """Floating-point operations of one tile in convolutions and matrix products, 10^9."""
    feed = Feed.of(tile, 1)
    given = {name: torch.zeros(shape, dtype=kind) for name, (kind, shape) in feed.fields.items()}
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        Restoring(model.generator.cpu(), bands, ())(feed, given)
    return float(counter.get_total_flops()) / 1e9


def end_to_end(restorer: TorchRestorer, tiles: Sequence[RawTile], count: int) -> float:
    """Tiles a second through the restorer, after a first round that prepares it."""
    rounds: list[float] = []
    for _ in range(2):
        start = time.perf_counter()
        done = sum(1 for _ in restorer.restore(itertools.islice(itertools.cycle(tiles), count)))
        rounds.append(done / (time.perf_counter() - start))
    return rounds[-1]


def alone(
    model: Checkpoint, bands: tuple[str, ...], feed: Feed, tiles: Sequence[RawTile], device: torch.device, passes: int
) -> float:
    """Tiles a second of the network on one device, its inputs there already, not captured; the best of the passes after the first."""
    arrays = {
        name: np.zeros(shape, torch.zeros(0, dtype=kind).numpy().dtype) for name, (kind, shape) in feed.fields.items()
    }
    feed.fill(arrays, tiles)
    given = {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}
    network = Restoring(model.generator.to(device), bands, ())
    best = np.inf
    with torch.inference_mode():
        for number in range(passes + 1):
            start = synchronized(device)
            network(feed, given)
            if number:
                best = min(best, synchronized(device) - start)
    return feed.batch / best


def distances(tiles: Sequence[RawTile], expected: Sequence[np.ndarray], answers: Sequence[np.ndarray]) -> np.ndarray:
    """DN between two answers to each tile, of the pixels that are composed: those under its mask, in every band."""
    apart = []
    for tile, one, other in zip(tiles, expected, answers, strict=True):
        # Behind the bands an answer holds the errors to expect.
        numbers = [np.rint(answer[: len(tile.cloudy)] * 1e4) for answer in (one, other)]
        apart.append(np.abs(numbers[0] - numbers[1])[:, tile.mask].ravel())
    return np.concatenate(apart)


def covered(spans: list[tuple[float, float]], others: list[tuple[float, float]]) -> float:
    """Share of the time in `spans` during which one of `others` ran too."""
    merged: list[list[float]] = []
    for start, end in sorted(others):
        if merged and start <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], end)
        else:
            merged.append([start, end])
    shared = sum(max(0.0, min(end, stop) - max(start, first)) for start, end in spans for first, stop in merged)
    return shared / max(sum(end - start for start, end in spans), 1e-9)


def traced(restorer: TorchRestorer, tiles: Iterator[RawTile], path: Path) -> str:
    """Write a profile of the tiles, and say how much of it overlaps."""
    kinds = [ProfilerActivity.CPU, ProfilerActivity.CUDA][: 1 + torch.cuda.is_available()]
    with profile(activities=kinds) as record:
        for _ in restorer.restore(tiles):
            pass
    record.export_chrome_trace(str(path))
    on_device = [event for event in record.events() or [] if event.device_type.name == "CUDA"]
    spans = [
        (event.name.startswith("Memcpy") and "DtoD" not in event.name, (event.time_range.start, event.time_range.end))
        for event in on_device
    ]
    copies = [span for is_copy, span in spans if is_copy]
    kernels = [span for is_copy, span in spans if not is_copy]
    if not copies:
        return f"{path}: nothing ran on a GPU, so nothing overlaps"
    return f"{path}: {covered(copies, kernels):.0%} of the time of copies to and from the device ran beside kernels"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--presets", nargs="+", default=["default", "small", "base"], choices=["default", *SIZES])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 4, 8, 16])
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16"], choices=["fp32", "bf16"])
    parser.add_argument("--tile", type=int, default=256)
    parser.add_argument("--bands", type=int, default=4, choices=[4, 12, 13])
    parser.add_argument("--dates", type=int, default=2)
    parser.add_argument("--passes", type=int, default=20, help="passes that are timed")
    parser.add_argument("--peak-size", type=int, default=8192)
    parser.add_argument(
        "--compile", action="store_true", help="through torch's compiler before capturing; takes minutes"
    )
    parser.add_argument("--trace", type=Path)
    given = parser.parse_args(arguments)
    bands = FOUR if given.bands == 4 else tuple(name for name in BANDS if given.bands == 13 or name != "B10")
    device = torch.device(given.device.partition(",")[0])
    tiles = made_tiles(4, len(bands), given.dates, given.tile)
    limit = peak(device, given.peak_size)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(f"{name}, torch {torch.__version__}, {given.device}; bf16 product {limit:.2f} TFLOP/s\n")
    print(
        "| preset | parameters | GFLOP a tile | precision | batch | tiles/s | network alone | share of it | share of the bf16 peak |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    lines = []
    for preset in given.presets:
        model = model_of(preset)
        cost, count = flops(model, tiles[0], bands), parameter_count(model.generator)
        restorer = TorchRestorer(model, bands, "cpu", workers=1)
        expected = list(restorer.restore(tiles))
        restorer.close()
        for precision, batch in itertools.product(given.precisions, given.batches):
            feed = Feed.of(tiles[0], batch if device.type == "cuda" else 1, half=precision == "bf16")
            bare = alone(model, bands, feed, tiles, device, given.passes)
            restorer = TorchRestorer(model, bands, given.device, batch=batch, compiled=given.compile)
            restorer.precision = precision
            rate = end_to_end(restorer, tiles, given.passes * batch)
            share = rate * cost / 1e3 / limit / len(restorer.devices)
            print(
                f"| {preset} | {count / 1e6:.1f} M | {cost:.1f} | {precision} | {batch} | {rate:.1f} | {bare:.1f} | {rate / bare:.2f} | {share:.1%} |",
                flush=True,
            )
            if batch == given.batches[-1]:
                apart = distances(tiles, expected, list(restorer.restore(tiles)))
                lines.append(
                    f"| {preset} | {precision} | {apart.max():.0f} | {np.mean(apart <= 1):.4%} | {np.mean(apart <= 2):.4%} |"
                )
                if given.trace is not None and preset == given.presets[-1] and precision == given.precisions[-1]:
                    lines += ["", traced(restorer, itertools.islice(itertools.cycle(tiles), 6 * batch), given.trace)]
            restorer.close()
    print(
        "\nAgainst a CPU in fp32:\n\n| preset | precision | max DN | within 1 DN | within 2 DN |\n|---|---|---|---|---|"
    )
    print("\n".join(lines))


if __name__ == "__main__":
    main()
