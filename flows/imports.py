"""What libraries import without our using it, left out of the command line's process: it would be a third of its start.

rasterio imports boto3 for sessions of its own, where GDAL finds credentials by itself; odc-geo imports Dask to recognise
its arrays, of which it is given none. Both work without, and a later import of either finds it as ever. Only the command
line does this, not a notebook that imports our packages: there they may be wanted.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import MappingProxyType, ModuleType

UNUSED = MappingProxyType({"rasterio.session": "boto3", "odc.geo.math": "dask"})
"""Module -> what it imports and we do not use."""


class _Without(Loader):
    """Runs a module as if something were not installed."""

    def __init__(self, loader: Loader, absent: str) -> None:
        self._loader, self._absent = loader, absent

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if self._absent in sys.modules:
            self._loader.exec_module(module)
            return
        # As the documentation of `import` says: None makes it fail as if there were no such module.
        sys.modules[self._absent] = None  # type: ignore[assignment]
        try:
            self._loader.exec_module(module)
        finally:
            del sys.modules[self._absent]


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in UNUSED:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Without(spec.loader, UNUSED[fullname])
        return spec


@contextmanager
def unused_left_out() -> Iterator[None]:
    """Within, the modules of `UNUSED` are imported without what they would import."""
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
