"""In which precision, and with which constants, a network computes: float32, or a trunk in bfloat16 with everything else in float32."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_FAST = frozenset(("avx512_bf16", "amx_bf16"))
"""Flags of CPUs that compute in bf16."""
_KEPT: dict[tuple[int, torch.device, torch.dtype], Tensor] = {}


def exactly(device: str) -> AbstractContextManager[Any]:
    """Leave autocast for a while: in bf16 the head alone would move 99.8 % of all pixels. Nothing where there is none, as at export."""
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()


def trunk_in(*, half: bool, device: torch.device) -> AbstractContextManager[Any]:
    """Run a generator's trunk in bf16, if `half`; what it marks as `exactly` stays in float32."""
    # Weights made smaller for one pass must not be kept for the next: a captured pass would read them where they lay.
    return torch.autocast(device.type, torch.bfloat16, cache_enabled=False) if half else nullcontext()


def lacks_bf16(device: torch.device) -> str:
    """What the device would need to compute in bf16 by itself; empty where it does. Without, bf16 is slower than float32."""
    if device.type == "cuda":
        return "" if torch.cuda.get_device_capability(device) >= (8, 0) else "compute capability 8.0"
    return "AVX512_BF16 or AMX" if _FAST.isdisjoint(_cpu_flags()) else ""


def _cpu_flags() -> set[str]:
    """What the kernel says of the first CPU; nothing where it says nothing."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    return next(
        (set(line.partition(":")[2].split()) for line in lines if line.startswith(("flags", "Features"))), set()
    )


def being_exported() -> bool:
    """Whether what runs is being written down to be exported, instead of run."""
    exporting = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)  # since torch 2.7
    return bool(torch.jit.is_tracing()) or bool(exporting())  # type: ignore[attr-defined]


def being_traced() -> bool:
    """Whether what runs is being written down, to be exported or compiled, instead of run."""
    return being_exported() or torch.compiler.is_compiling()


def kept(constant: Tensor, like: Tensor) -> Tensor:
    """A constant of a module in the type and place of `like`: brought there once, and kept there.

    Not in a graph that is exported: it would be tied to the device on which it was made.
    """
    if being_exported() or (constant.device == like.device and constant.dtype == like.dtype):
        return constant.type_as(like)
    key = (id(constant), like.device, like.dtype)
    if key not in _KEPT:
        # Ordinary tensors, whoever asks first: those of inference mode are of no use to training.
        with torch.inference_mode(mode=False):
            _KEPT[key] = constant.type_as(like)
    return _KEPT[key]
