"""The examples in docstrings; pytest's own collection does not go through `benchmarks`, whose contenders import what is not installed here."""

from __future__ import annotations

import doctest
from types import ModuleType

import pytest

from benchmarks.bench import machine, scenes, table
from benchmarks.bench.contenders import rasters


@pytest.mark.parametrize("module", [machine, rasters, scenes, table])
def test_examples(module: ModuleType) -> None:
    assert doctest.testmod(module, raise_on_error=True).attempted > 0


def test_the_machine_is_described() -> None:
    here = machine.Machine.here()
    assert here.cores >= 1
    assert here.memory > 2**28
    assert str(here.versions["GDAL"]) in here.words()
    assert set(here.to_json()) == {"processor", "cores", "memory", "system", "python", "versions", "load"}
