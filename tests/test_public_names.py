"""What each package offers under its own name."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGES = ("catalogs", "pipeline", "srgan")


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_is_there_and_known_to_type_checkers(package: str) -> None:
    module = importlib.import_module(package)
    assert all(getattr(module, name) is not None for name in module.__all__)
    (guarded,) = (node for node in ast.parse(Path(str(module.__file__)).read_text()).body if isinstance(node, ast.If))
    typed = {name.name for line in guarded.body if isinstance(line, ast.ImportFrom) for name in line.names}
    assert typed == set(module.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing_like_it'"):
        module.nothing_like_it  # noqa: B018


def test_packages_cost_nothing_until_a_name_is_used() -> None:
    heavy = "('torch', 'xarray', 'geopandas', 'rasterio', 'dask', 'prefect')"
    code = f"import sys, {', '.join(PACKAGES)}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
