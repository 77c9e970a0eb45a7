"""The cube on its disk: pixels first, then everything else beside it, then one step that makes it the cube.

    .cube.zarr.steps/<key>/<group>/<layer>/c.0.<row>.<col>    the pixels of a new step, checked; a killed append finds them again
    .cube.zarr.next/                                          the whole cube as it will be; pixels are hard links, so none is copied
    cube.zarr <-> .cube.zarr.next                             they change names: one system call, the commit
    .cube.zarr.next, .cube.zarr.steps                         the former cube and the links are removed

Every chunk belongs to one step, so a step moves along the time axis as its files get other names. A process that is killed before the
commit leaves the former cube as it was, one killed after it leaves the new one; what else lies there the next append uses or removes.
On systems that cannot let two folders change names (network file systems, macOS) the former cube is put aside first; killed just then,
the cube has no name until the next append or `read_cube_state` gives it back.
"""

from __future__ import annotations

import contextlib
import os
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.cube_arrays import create_array, create_skeleton, shard_rows
from pipeline.cube_plan import CubePlan
from pipeline.cube_record import CubeRecord, StepRecord, read_record
from pipeline.cube_source import StepSource
from pipeline.durable import exchange, flush, flush_tree, link, remove_tree, turn
from pipeline.errors import ReadFailed, WriteFailed
from pipeline.layers import Layer
from pipeline.sink import as_bytes, write_failed
from pipeline.zarr_store import drain

_PART = ".part"
Arrays = Mapping[str, Sequence[Layer]]
"""Group -> its layers, all on one grid."""


class CubeStore:
    """One cube, and the hidden entries beside it."""

    def __init__(self, cube: Path) -> None:
        self.cube = cube.resolve()
        """The Zarr store; links are followed, so that it is the folder that changes and not the link."""
        hidden = [self.cube.parent / f".{self.cube.name}.{name}" for name in ("lock", "next", "former", "steps")]
        self._lock, self._next, self._former, self._steps = hidden

    def record(self) -> CubeRecord | None:
        """The record of the cube, see `read_record`."""
        found = read_record(self.cube)
        return read_record(self._former) if found is None else found

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Wait for others that write the cube, clear away what a killed one left, and keep the rest waiting.

        Any OSError inside becomes WriteFailed. After an error what was begun is removed, so that a full disk is not left fuller; after an
        interruption finished steps stay for the next append.
        """
        try:
            self.cube.parent.mkdir(parents=True, exist_ok=True)
            with turn(self._lock):
                self._recover()
                try:
                    yield
                except BaseException as error:
                    remove_tree(self._next)
                    if isinstance(error, Exception):
                        remove_tree(self._steps)
                    raise
        except OSError as error:
            raise write_failed(error, self.cube, option="--cube") from error

    def tidy(self) -> None:
        """Remove what a process left that was killed after its commit. Only where there is nothing to append."""
        remove_tree(self._steps)

    def stage(self, key: str, arrays: Arrays, source: StepSource) -> Path:
        """Write the pixels of one step to the disk and read them back; return their folder.

        `key` stands for everything that they depend on: a folder that is there is taken as it is. Raises WriteFailed.
        """
        import zarr

        folder = self._steps / key
        if folder.is_dir():
            return folder
        part = folder.with_name(key + _PART)
        try:
            root = zarr.create_group(part, zarr_format=3)
            for name, layers in arrays.items():
                self._write(root.create_group(name), layers, source)
            flush_tree(part)
            part.rename(folder)
            flush(self._steps)
        except BaseException:
            drain()
            remove_tree(part)
            raise
        return folder

    def commit(self, record: CubeRecord, arrays: Arrays, plan: CubePlan, staged: Mapping[int, Path]) -> CubeRecord:
        """Make the cube that of `record`, with the steps of `plan`; `staged` holds the pixels of those that are not kept.

        Returns the record as it was written. Raises ReadFailed where pixels of the former cube are missing.
        """
        new = {index: list(_files(folder, arrays)) for index, folder in staged.items()}
        steps = [
            step.model_copy(update={"files": len(new[index])}) if index in new else step
            for index, step in enumerate(plan.steps)
        ]
        record = record.model_copy(update={"steps": tuple(steps)})
        remove_tree(self._next)
        create_skeleton(self._next, record, arrays)
        listed = _Listing(self.cube, arrays)
        for index, step in enumerate(steps):
            if index in new:
                _link(staged[index], new[index], self._next, index)
            else:
                _link(self.cube, listed.chunks(plan.kept[index], step), self._next, index)
        _consolidate(self._next, arrays)
        if read_record(self._next) != record:
            raise WriteFailed(f"{self._next}: reads back differently than it was written: check the disk, run again")
        flush_tree(self._next)
        self._swap()
        return record

    def _swap(self) -> None:
        empty = not self.cube.exists() or not any(self.cube.iterdir())
        if empty:
            self._next.rename(self.cube)
        elif not exchange(self._next, self.cube):
            self.cube.rename(self._former)
            self._next.rename(self.cube)
        flush(self.cube.parent)
        # The cube is in place: what cannot be removed now is removed by the next append.
        with contextlib.suppress(OSError):
            for folder in (self._next, self._former, self._steps):
                remove_tree(folder)

    def _recover(self) -> None:
        if not self.cube.exists() and self._former.exists():
            self._former.rename(self.cube)
        remove_tree(self._next)
        remove_tree(self._former)
        for part in self._steps.glob(f"*{_PART}"):
            remove_tree(part)

    def _write(self, group: Any, layers: Sequence[Layer], source: StepSource) -> None:
        height = layers[0].shape[0]
        step = shard_rows(layers[0])
        stripes = [slice(row, min(row + step, height)) for row in range(0, height, step)]
        arrays = {layer.name: create_array(group, layer, 1) for layer in layers}
        sums: dict[str, int] = {}
        for rows in stripes:
            for layer in layers:
                pixels = source.read(layer, rows)
                if pixels is not None:
                    arrays[layer.name][0, rows] = pixels
                    sums[layer.name] = zlib.crc32(as_bytes(pixels), sums.get(layer.name, 0))
        for name, written in sums.items():
            found = 0
            for rows in stripes:
                found = zlib.crc32(as_bytes(np.asarray(arrays[name][0, rows])), found)
            if found != written:
                raise WriteFailed(
                    f"{self.cube}: {name} reads back other pixels than were written: check the disk, run again"
                )


class _Listing:
    """The files of a cube by step, each folder listed once."""

    def __init__(self, cube: Path, arrays: Arrays) -> None:
        self._cube = cube
        self._found: dict[int, list[tuple[str, str]]] = {}
        for folder, name in _files(cube, arrays):
            self._found.setdefault(int(name.split(".")[1]), []).append((folder, name))

    def chunks(self, index: int, step: StepRecord) -> list[tuple[str, str]]:
        """(folder, name) of the files of a step. Raises ReadFailed where some are missing."""
        found = self._found.get(index, [])
        if len(found) != step.files:
            raise ReadFailed(
                f"{self._cube}: damaged: {len(found)} of {step.files} files of {step.time:%Y-%m-%dT%H:%M:%SZ} are there: "
                "move it away, and append all products again"
            )
        return found


def _files(store: Path, arrays: Arrays) -> Iterator[tuple[str, str]]:
    """(folder, name) of every file with pixels in a store; layers that it does not have are passed over."""
    for group, layers in arrays.items():
        for layer in layers:
            folder = f"{group}/{layer.name}"
            if (store / folder).is_dir():
                yield from ((folder, name) for name in sorted(_names(store / folder)) if name.startswith("c."))


def _names(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries]


def _link(store: Path, files: Sequence[tuple[str, str]], target: Path, index: int) -> None:
    for folder, name in files:
        _, _, place = name.split(".", 2)
        link(store / folder / name, target / folder / f"c.{index}.{place}")


def _consolidate(store: Path, arrays: Arrays) -> None:
    """One file of metadata a group, so that opening reads few files."""
    import zarr

    for group in (*arrays, ""):
        # The warning says that readers other than zarr and xarray may not know it; they need not.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", zarr.errors.ZarrUserWarning)
            zarr.consolidate_metadata(store, path=group, zarr_format=3)
