"""Where a network runs: what `--device` may say, and which of it this machine has."""

from __future__ import annotations

import re

from pipeline.errors import InvalidSettings


def is_device(text: str) -> bool:
    """Whether `text` can name devices: auto, cpu, cuda, cuda:N, or several GPUs by their numbers.

    >>> [is_device(text) for text in ("auto", "cuda", "cuda:1", "cuda:0,cuda:1", "cuda:0,cpu", "cuda,cuda:1", "cuda:0,cuda:0", "")]
    [True, True, True, True, False, False, False, False]
    """
    if re.fullmatch(r"auto|cpu|cuda", text):
        return True
    names = text.split(",")
    return len({*names}) == len(names) and all(re.fullmatch(r"cuda:(0|[1-9]\d{0,3})", name) for name in names)


def pick_device(name: str) -> str:
    """The torch device for `auto`, `cpu`, `cuda` or `cuda:N`, or several of these, `cuda:0,cuda:1`.

    Raises InvalidSettings where CUDA, or a GPU of that number, is asked for and not there.
    """
    if name == "cpu":
        return "cpu"
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return "cuda" if count else "cpu"
    if not count:
        raise InvalidSettings(f"--device {name}: this machine's torch sees no CUDA device; use --device cpu")
    lacking = [one for one in name.split(",") if ":" in one and int(one.partition(":")[2]) >= count]
    if lacking:
        seen = "cuda:0 only" if count == 1 else f"cuda:0 to cuda:{count - 1}"
        raise InvalidSettings(f"--device {name}: there is no {lacking[0]}; this machine's torch sees {seen}")
    return name
