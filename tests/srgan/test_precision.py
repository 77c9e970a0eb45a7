"""bf16 in the trunk and nowhere else, and what a CPU says of itself."""

from __future__ import annotations

import pytest
import torch

from srgan import precision
from srgan.guidance import band_groups
from srgan.precision import kept, lacks_bf16, trunk_in
from srgan.spec import ModelSpec
from tests.srgan.made import inputs, lively

SPEC = ModelSpec(name="smallest", widths=(8, 8, 12, 12), depths=(1, 1, 1, 1), margin=16)


def test_the_guess_and_the_head_stay_in_float32_whatever_the_trunk():
    generator, given = lively(SPEC), inputs(dates=1)
    drafts = []
    for half in (False, True):
        with torch.inference_mode(), trunk_in(half=half, device=torch.device("cpu")):
            drafts.append(generator.draft(**given))
    full, half_ = drafts
    for name in ("image", "guess", "support", "above", "bands"):
        assert torch.equal(getattr(full, name), getattr(half_, name)), name
    assert {part.dtype for part in half_} == {torch.float32}
    apart = (generator.finish(full).restored - generator.finish(half_).restored).abs()
    assert 0 < float(apart.max()) < 0.05
    # No rounding to eight bits of what leaves the network: its values are not all multiples of a bf16 step.
    assert not torch.equal(generator.finish(half_).restored.bfloat16().float(), generator.finish(half_).restored)


@pytest.mark.parametrize(
    ("flags", "lacking"), [({"avx512f"}, "AVX512_BF16 or AMX"), ({"avx512f", "avx512_bf16"}, ""), ({"amx_bf16", "amx_tile"}, ""), (set(), "AVX512_BF16 or AMX")]
)  # fmt: skip
def test_a_cpu_is_asked_what_it_can(monkeypatch, flags, lacking):
    monkeypatch.setattr(precision, "_cpu_flags", lambda: flags)
    assert lacks_bf16(torch.device("cpu")) == lacking


def test_this_cpu_says_something():
    assert "fpu" in precision._cpu_flags() or "fp" in precision._cpu_flags()


def test_a_constant_is_brought_once_to_each_type_and_place():
    constant = torch.tensor([1.0, 2.0])
    assert kept(constant, torch.ones(1)) is constant
    double = kept(constant, torch.ones(1, dtype=torch.float64))
    assert double.dtype == torch.float64
    assert kept(constant, torch.zeros(3, dtype=torch.float64)) is double
    with torch.inference_mode():
        first = kept(constant, torch.ones(1, dtype=torch.float16))
    assert not first.is_inference()
    image = torch.rand(1, 13, 4, 4, dtype=torch.float64, requires_grad=True)
    band_groups(image, torch.ones(1, 13, dtype=torch.float64)).sum().backward()
    assert image.grad is not None
