"""URLs as Prefect may keep them, and as they were given."""

from __future__ import annotations

from pathlib import Path

from flows.credentials import given, hide
from flows.request import AreaRequest, SceneRequest


def test_what_is_hidden_is_known_in_this_process() -> None:
    url = "https://me:pw@host/catalog.json?sig=secret"
    request = AreaRequest(output=Path("out"), catalog=url, aoi="1,2,3,4", dates="2023-08-01")
    hidden = hide(request)
    assert hidden.catalog == "https://host/catalog.json"
    assert given(hidden.catalog) == url
    assert hide(hidden).catalog == hidden.catalog
    assert given("earth-search") == "earth-search"


def test_two_files_that_only_their_key_tells_apart_stay_two() -> None:
    urls = tuple(f"https://host/get?key=a/{band}.tif" for band in ("B02", "B03", "B02"))
    hidden = hide(SceneRequest(output=Path("out"), sources=urls)).sources
    assert tuple(map(given, hidden)) == urls
    assert hidden[0] == hidden[2] != hidden[1]
    assert not any("key=" in one for one in hidden)
