"""How fast a preset trains here: steps a second, share of the time spent waiting for batches, arithmetic done, memory.

    python benchmarks/training_speed.py --store STORE --preset small --set batch=1 --steps 10
    python benchmarks/training_speed.py --store STORE --preset base --set batch=16 --steps 100 --workers 12 --peak 989

The second line is for a GPU; `--peak` is its dense bf16 peak in TFLOP/s, of which the share is printed. The adversarial term is on from the
first step, as it is for most of a run.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from srgan.dataset import SampleMaker
from srgan.devices import Devices, pick
from srgan.generator import parameter_count
from srgan.loader import Loader, Steps
from srgan.losses import SupervisedLosses
from srgan.settings import load_settings, parse_overrides
from srgan.state import TrainState
from srgan.steps import Stepper
from srgan.store import ChipStore
from srgan.vgg import load_vgg


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--preset", default="small")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--vgg-weights", type=Path)
    parser.add_argument("--peak", type=float, default=0.0, help="TFLOP/s of the device in bf16")
    arguments = parser.parse_args()
    device = pick(arguments.device)
    always = {"gan_start": 0, "gan_ramp": 0, "shares_every": 10**6}
    settings = load_settings(arguments.preset, parse_overrides(arguments.set) | always)
    vgg = load_vgg(arguments.vgg_weights).to(device) if settings.losses.needs_vgg else None
    state = TrainState(settings, device)
    stepper = Stepper(state, SupervisedLosses(vgg), Devices(device), 10**6)
    real = settings.batch if settings.real_batch is None else settings.real_batch
    maker = SampleMaker(ChipStore(arguments.store).split("train"), settings, settings.seed)
    loader = Loader(Steps(maker, settings.batch, real, 0), 0, arguments.steps + 3, device, arguments.workers)
    seconds, waits, counted = [], [], 0
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True
        torch.cuda.reset_peak_memory_stats()
    started = time.perf_counter()
    for number, batch in enumerate(loader):
        if number == 1:
            with FlopCounterMode(display=False) as counter:
                stepper.update(batch)
            counted = counter.get_total_flops()
        else:
            stepper.update(batch)
        if device.type == "cuda":
            torch.cuda.synchronize()
        now = time.perf_counter()
        if number > 2:
            seconds.append(now - started)
            waits.append(loader.waited)
        started = now
    step = statistics.median(seconds)
    speed = counted / step / 1e12
    memory = (
        torch.cuda.max_memory_allocated()
        if device.type == "cuda"
        else 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    )
    print(
        f"{arguments.preset}: {parameter_count(state.generator) / 1e6:.1f} M parameters, {settings.batch} synthetic + {real} real "
        f"samples of {settings.crop} px a step, {device}, {'bf16' if stepper.half else 'fp32'}, {torch.get_num_threads()} threads"
    )
    print(f"{1 / step:.3f} steps/s (median of {len(seconds)}), waiting {sum(waits) / sum(seconds):.0%} of the time")
    share = f", {speed / arguments.peak:.1%} of the peak" if arguments.peak else ""
    print(f"{counted / 1e12:.3f} TFLOP a step, {speed:.3f} TFLOP/s{share}; {memory / 2**30:.2f} GiB")


if __name__ == "__main__":
    main()
