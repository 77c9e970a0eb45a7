"""Raster files that lie: of their size, their pixels, their grid, or of being rasters at all."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine

from tests.hostile.case import Case, files, masked, noise, run

_WIDTH, _LENGTH, _BANDS = 256, 257, 277
_SIZES = {3: "H", 4: "I"}


def patched(path: Path, values: dict[int, int]) -> None:
    """Change tags of a little-endian classic TIFF in place; a value that needs four bytes becomes a LONG."""
    content = bytearray(path.read_bytes())
    start = struct.unpack_from("<I", content, 4)[0]
    for number in range(struct.unpack_from("<H", content, start)[0]):
        entry = start + 2 + 12 * number
        tag, kind, count = struct.unpack_from("<HHI", content, entry)
        if tag in values:
            assert count == 1
            assert kind in _SIZES
            struct.pack_into("<HHII", content, entry, tag, 4, 1, values[tag])
    path.write_bytes(content)


def lying(**values: int) -> Any:
    """A GeoTIFF of 96 x 96 pixels that claims `width`, `height` or `bands`."""
    tags = {"width": _WIDTH, "height": _LENGTH, "bands": _BANDS}

    def build(folder: Path) -> Sequence[object]:
        paths = files(folder)
        for path in paths:
            patched(path, {tags[name]: value for name, value in values.items()})
        return masked(folder, paths)

    return build


def one_block(size: int) -> Any:
    """Files of one block of `size` x `size` pixels, none of them stored: hundreds of bytes that decode to gigabytes."""

    def build(folder: Path) -> Sequence[object]:
        paths = files(folder)
        for path in paths:
            sparse(path, size)
        return masked(folder, paths)

    return build


def sparse(path: Path, size: int, edge: int | None = None, **options: Any) -> None:
    """Write a GeoTIFF without a single stored block."""
    edge = edge or size
    with rasterio.open(
        path, "w", driver="GTiff", width=size, height=size, count=1, dtype="uint16", nodata=0, crs="EPSG:32633", tiled=True,
        blockxsize=edge, blockysize=edge, compress="deflate", sparse_ok=True, bigtiff="no",
        transform=Affine(10, 0, 499980, 0, -10, 5100000), **options,
    ):  # fmt: skip
        pass


def replaced(content: bytes, name: str = "B02.tif") -> Any:
    """A source file of these bytes."""

    def build(folder: Path) -> Sequence[object]:
        (folder / name).write_bytes(content)
        return run(folder, folder / name)

    return build


def fifo(folder: Path) -> Sequence[object]:
    os.mkfifo(folder / "T33UWP_20230810_B02.tif")
    return run(folder, folder / "T33UWP_20230810_B02.tif")


def directory(folder: Path) -> Sequence[object]:
    (folder / "B02.tif").mkdir()
    return run(folder, folder / "B02.tif")


def endless(folder: Path) -> Sequence[object]:
    (folder / "B02.tif").symlink_to("/dev/zero")
    return run(folder, folder / "B02.tif")


def virtual(folder: Path) -> Sequence[object]:
    target = files(folder)[0]
    (folder / "B02.tif").write_text(
        f'<VRTDataset rasterXSize="96" rasterYSize="96"><VRTRasterBand dataType="UInt16" band="1"><SimpleSource>'
        f'<SourceFilename relativeToVRT="0">{target}</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>'
    )
    return run(folder, folder / "B02.tif")


def made(**options: Any) -> Any:
    """A made scene with these options of `write_raster`."""
    return lambda folder: masked(folder, files(folder, **options))


def grid(*numbers: float) -> Any:
    """Files on a grid that is none."""

    def build(folder: Path) -> Sequence[object]:
        paths = files(folder)
        for path in paths:
            with rasterio.open(path, "r+") as file:
                file.transform = Affine(*numbers)
        return masked(folder, paths)

    return build


def jpeg2000(values: bytes) -> Any:
    """JPEG 2000 whose SIZ marker claims another size."""

    def build(folder: Path) -> Sequence[object]:
        paths = files(folder, driver="JP2OpenJPEG")
        for path in paths:
            content = bytearray(path.read_bytes())
            # ISO/IEC 15444-1, A.5.1: marker, Lsiz, Rsiz, then Xsiz and Ysiz.
            start = content.index(b"\xff\x51") + 6
            content[start : start + len(values)] = values
            path.write_bytes(content)
        return masked(folder, paths)

    return build


def boxes(folder: Path) -> Sequence[object]:
    paths = files(folder, driver="JP2OpenJPEG")
    content = bytearray(paths[0].read_bytes())
    content[12:16] = struct.pack(">I", 4)
    paths[0].write_bytes(content)
    return masked(folder, paths)


def loop(folder: Path) -> Sequence[object]:
    paths = files(folder)
    content = bytearray(paths[0].read_bytes())
    start = struct.unpack_from("<I", content, 4)[0]
    count = struct.unpack_from("<H", content, start)[0]
    struct.pack_into("<I", content, start + 2 + 12 * count, start)
    paths[0].write_bytes(content)
    return masked(folder, paths)


def damaged(folder: Path) -> Sequence[object]:
    paths = files(folder, compress="deflate")
    content = bytearray(paths[1].read_bytes())
    middle = len(content) // 2
    content[middle : middle + 400] = noise(400)
    paths[1].write_bytes(content)
    return masked(folder, paths)


def mask_of(folder: Path, size: int) -> Sequence[object]:
    paths = files(folder)
    sparse(folder / "mask.tif", size)
    return masked(folder, paths)


def scaled(folder: Path) -> Sequence[object]:
    paths = files(folder)
    with rasterio.open(paths[0], "r+") as file:
        file.scales, file.offsets = (1e300,), (-1e300,)
    return masked(folder, paths)


def entities(folder: Path) -> Sequence[object]:
    paths = files(folder)
    Path(f"{paths[0]}.aux.xml").write_text(
        '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
        "<PAMDataset><SRS>&b;</SRS><GeoTransform>nan,nan,nan,nan,nan,nan</GeoTransform></PAMDataset>"
    )
    return masked(folder, paths)


CASES = (
    Case("a GeoTIFF of 96 x 96 pixels that claims a million by a million", lying(width=10**6, height=10**6), "pixels"),
    Case("a GeoTIFF that claims 4 billion columns", lying(width=2**32 - 1), "Too large image size"),
    Case("a GeoTIFF that claims 65,535 bands", lying(bands=65535), "bands have no names"),
    Case("a decompression bomb: 10 kB that decode to 7 GB in one block", one_block(60_000), "rewrite it in tiles", 1),
    Case("a decompression bomb as --mask", lambda folder: mask_of(folder, 60_000), "rewrite it in tiles", 1),
    Case("a TIFF whose directory leads to itself, which is not followed", loop, "done", 0),
    Case("a GeoTIFF with 400 bytes of noise amid its pixels", damaged, "is missing, truncated or damaged", 1),
    Case("an empty file", replaced(b""), "cannot be read as a raster"),
    Case("eight bytes of a TIFF", replaced(b"II*\0\x08\0\0\0"), "cannot be read as a raster"),
    Case("a megabyte of noise", replaced(noise(2**20)), "cannot be read as a raster"),
    Case("a login page saved as .tif", replaced(b"<!doctype html><title>Log in</title>"), "cannot be read as a raster"),
    Case("a VRT called .tif that names another file", virtual, "cannot be read as a raster"),
    Case("a PNG header that claims 2 billion by 2 billion pixels", replaced(
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\x7f\xff\xff\xff\x7f\xff\xff\xff\x10\0\0\0\0\xc3\x8a\xb1\x0e", "B02.png"), "cannot be read as a raster"),
    Case("a pipe that nobody writes to", fifo, "B02.tif"),
    Case("a link to /dev/zero", endless, "B02.tif"),
    Case("a folder called B02.tif", directory, "is no SAFE folder"),
    Case("JPEG 2000 that claims 4 billion by 4 billion pixels", jpeg2000(b"\xff" * 8), "cannot be read as a raster"),
    Case("JPEG 2000 with a box that is shorter than its own header", boxes, "cannot be read as a raster"),
    Case("a grid of pixels without width", grid(0, 0, 499980, 0, -10, 5100000), "is not georeferenced"),
    Case("a grid that is not finite", grid(float("nan"), 0, 499980, 0, -10, 5100000), "is none"),
    Case("a grid beyond the Earth", grid(10, 0, 1e12, 0, -10, 1e12), "does not fit its CRS"),
    Case("scale and offset of 1e300", scaled, "give no reflectance"),
    Case("complex pixels", made(dtype=np.complex64), "only uint16", 1),
    Case("a sidecar file with XML entities and a grid of NaN", entities, "done", 0),
)  # fmt: skip
