"""In which precision a network computes: float32, or a trunk in bfloat16 with everything else in float32."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch


def exactly(device: str) -> AbstractContextManager[Any]:
    """Leave autocast for a while: in bf16 the head alone would move 99.8 % of all pixels. Nothing where there is none, as at export."""
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()


def being_traced() -> bool:
    """Whether what runs is being written down, to be exported or compiled, instead of run."""
    return bool(torch.jit.is_tracing()) or torch.compiler.is_compiling()  # type: ignore[attr-defined]
