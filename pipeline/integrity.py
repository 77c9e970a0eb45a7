"""Whether all bytes of a raster are there: `check_file` of a local one, `came_whole` of a block that a server has sent.

A truncated file should be refused when it is opened, not after half a scene has been worked on. GDAL notices a missing
block of a GeoTIFF only on reading it; for JPEG 2000 its worker threads print an error and hand out zeros. So the two
containers are walked here without decoding: JPEG 2000 by its boxes and tile-parts (ISO/IEC 15444-1 annexes A and I),
TIFF by the offsets and sizes of its blocks. Other formats are left to the reading itself.
"""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import BinaryIO

from pipeline.errors import InvalidScene

_JP2_SIGNATURE = bytes.fromhex("0000000c6a5020200d0a870a")
_CODESTREAM = bytes.fromhex("ff4fff51")
_SOT, _EOC = 0xFF90, 0xFFD9
_ADDRESS = re.compile(r"/vsi\S+")
_CUT = re.compile(
    r"read error|seek error|got \d+ bytes|HTTP (error|response)|response[ _]code|curl error|timed out", re.IGNORECASE
)


def check_file(path: Path, blocks_end: int | None = None) -> None:
    """Raise InvalidScene where the file at `path` is shorter than its structure says.

    `blocks_end`: first byte behind the last block of pixels, for containers whose index GDAL has read (TIFF).
    """
    size = path.stat().st_size
    if blocks_end is not None and blocks_end > size:
        raise _truncated(path, size, blocks_end)
    with path.open("rb") as file:
        head = file.read(12)
        if head == _JP2_SIGNATURE:
            start, end = _codestream_box(file, path, size)
            _check_codestream(file, path, start, end)
        elif head.startswith(_CODESTREAM):
            _check_codestream(file, path, 0, size)


def _codestream_box(file: BinaryIO, path: Path, size: int) -> tuple[int, int]:
    """First byte of the contiguous codestream, and the one behind it."""
    position = 0
    while position < size:
        file.seek(position)
        length, kind = struct.unpack(">I4s", _take(file, 8, path, size))
        header = 8
        if length == 1:
            (length,) = struct.unpack(">Q", _take(file, 8, path, size))
            header = 16
        end = size if length == 0 else position + length
        if end > size:
            raise _truncated(path, size, end)
        if end < position + header:
            raise InvalidScene(f"{path}: damaged JPEG 2000 file, a box of {length} bytes at byte {position}")
        if kind == b"jp2c":
            return position + header, end
        position = end
    raise InvalidScene(f"{path}: truncated JPEG 2000 file, {size} bytes hold no image: fetch it again")


def _check_codestream(file: BinaryIO, path: Path, start: int, end: int) -> None:
    """Follow the markers of the main header, then the tile-parts, to the end-of-codestream marker."""
    position = start + 2  # behind SOC
    while True:
        file.seek(position)
        (marker,) = struct.unpack(">H", _take(file, 2, path, end))
        if marker == _EOC:
            return
        if marker < 0xFF00:
            raise InvalidScene(f"{path}: damaged JPEG 2000 file, no marker at byte {position}: fetch it again")
        (length,) = struct.unpack(">H", _take(file, 2, path, end))
        if marker == _SOT:
            _, length = struct.unpack(">HI", _take(file, 6, path, end))
            if length == 0:  # the last tile-part reaches to the end-of-codestream marker
                position = end - 2
                continue
            length -= 2  # counted from the marker itself, unlike the other segments
        position += 2 + length
        if position + 2 > end:
            raise _truncated(path, end, position + 2)


def _take(file: BinaryIO, count: int, path: Path, size: int) -> bytes:
    """`count` bytes, all of them."""
    taken = file.read(count)
    if len(taken) < count:
        raise _truncated(path, size, size + count - len(taken))
    return taken


def _truncated(path: Path, size: int, needed: int) -> InvalidScene:
    return InvalidScene(f"{path}: truncated file, {size} bytes where at least {needed} are announced: fetch it again")


def came_whole(error: BaseException | None) -> bool:
    """Whether what GDAL raised means that a block of a TIFF came whole from a server and could not be decoded.

    False for JPEG 2000, of which that cannot be told: it is decoded from as much as has come.
    """
    told = ""
    while error is not None:
        told += _ADDRESS.sub("", f" {error}")
        error = error.__cause__
    return "TIFFReadEncoded" in told and _CUT.search(told) is None
