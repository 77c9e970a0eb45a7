"""What the names of files and folders tell: band, MGRS tile, date. Whole tokens only, between `_`, `-`, `.` or blanks."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, time

from catalogs.bands import find_band

_TOKENS = re.compile(r"[_\-.\s]+")
_BAND = re.compile(r"B\d{1,2}A?|SCL", re.IGNORECASE)
_TILE = re.compile(r"T?(\d{2}[C-HJ-NP-X][A-HJ-NP-Z]{2})")
_DATE = re.compile(r"(?<!\d)(20[1-9]\d)(-?)(0[1-9]|1[0-2])\2(0[1-9]|[12]\d|3[01])(?:T(\d{2}):?(\d{2}):?(\d{2}))?(?!\d)")


def band_in(text: str) -> str | None:
    """ESA's name of the one band, or `SCL`, that `text` names; None where it names none or several.

    >>> band_in("ref_input_S2_B02"), band_in("T33TWL_20230810T094549_B8A_20m"), band_in("scene nir08"), band_in("B02_B03")
    ('B02', 'B8A', 'B8A', None)
    """
    tokens = [token for token in _TOKENS.split(text) if token]
    found = {_band(token) for token in tokens if _BAND.fullmatch(token)} - {None}
    if not found:
        found = {find_band(token) for token in tokens} - {None}
    return found.pop() if len(found) == 1 else None


def tile_in(text: str) -> str | None:
    """First MGRS tile in `text`.

    >>> tile_in("T33TWL_20230810T094549_B8A_20m"), tile_in("S2_L1C_31U_512x1024")
    ('33TWL', None)
    """
    return next((match[1] for token in _TOKENS.split(text) if (match := _TILE.fullmatch(token))), None)


def date_in(text: str) -> datetime | None:
    """First date in `text` (`20230810`, `2023-08-10`, either with a time), UTC; None where there is none.

    >>> date_in("S2B_MSIL2A_20230810T094549_N0509"), date_in("s2_ROIs2017_146_ImgNo_3_2018-02-10_patch_0").day
    (datetime.datetime(2023, 8, 10, 9, 45, 49, tzinfo=datetime.timezone.utc), 10)
    """
    for match in _DATE.finditer(text):
        year, _, month, day, hour, minute, second = match.groups()
        try:
            clock = time(int(hour or 0), int(minute or 0), int(second or 0), tzinfo=UTC)
            return datetime.combine(date(int(year), int(month), int(day)), clock)
        except ValueError:  # 31 February: digits that are no date
            continue
    return None


def common_id(stems: Sequence[str], fallback: str) -> str:
    """An id for files called `stems`: what their names begin with in common, up to a whole token, cleaned.

    `fallback` (the folder's name) is used where they have nothing in common.

    >>> common_id(["ref_input_S2_B02", "ref_input_S2_B8A"], "scenes"), common_id(["a b"], ""), common_id(["B02", "B03"], "x")
    ('ref_input_S2', 'a_b', 'x')
    """
    prefix = stems[0]
    if len(stems) > 1:
        prefix = os.path.commonprefix(list(stems))  # noqa: RUF071 - characters are what is meant
        if any(len(stem) > len(prefix) and not _TOKENS.match(stem[len(prefix)]) for stem in stems):
            prefix = _last_boundary(prefix)
    cleaned = _clean(prefix)
    return cleaned or _clean(fallback) or "scene"


def _last_boundary(text: str) -> str:
    cuts = [match.start() for match in _TOKENS.finditer(text)]
    return text[: cuts[-1]] if cuts else ""


def _clean(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip("._-")[:200]


def _band(token: str) -> str | None:
    return "SCL" if token.upper() == "SCL" else find_band(token)
