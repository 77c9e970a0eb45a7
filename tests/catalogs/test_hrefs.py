from __future__ import annotations

import os
from pathlib import PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalogs.errors import InvalidItem
from catalogs.hrefs import absolute, folder_of, is_remote, resolve_href, without_credentials

PARTS = st.lists(st.sampled_from(["..", ".", "a", "b", "B02.tif", "", "%2e%2e", "..."]), min_size=1, max_size=8)
BASE = "/data/cat/one/two/item.json"


@settings(deadline=None, max_examples=60)
@given(PARTS)
def test_a_path_stays_inside_or_is_refused(parts: list[str]) -> None:
    href = "/".join(parts)
    # Oracle: walk the parts on a stack of folders, as a file system without links would.
    stack = [] if href.startswith("/") else list(PurePosixPath("/data/cat/one/two").parts[1:])
    for part in parts:
        if part == "..":
            stack = stack[:-1]
        elif part not in ("", "."):
            stack.append(part)
    inside = stack[:2] == ["data", "cat"]
    if not href or not inside:
        with pytest.raises(InvalidItem):
            resolve_href(href, BASE, "/data/cat")
    else:
        assert resolve_href(href, BASE, "/data/cat") == "/" + "/".join(stack)


@settings(deadline=None, max_examples=60)
@given(PARTS)
def test_a_relative_url_stays_below_the_root_or_is_refused(parts: list[str]) -> None:
    href = "/".join(parts).lstrip("/")
    depth = lowest = 2
    for part in parts:
        depth += -1 if part in ("..", "%2e%2e") else 0 if part in ("", ".") else 1
        lowest = min(lowest, depth)
    base = "https://example.com/cat/one/two/item.json"
    if not href or lowest < 0:
        with pytest.raises(InvalidItem):
            resolve_href(href, base, "https://example.com/cat")
    else:
        assert resolve_href(href, base, "https://example.com/cat").startswith("https://example.com/cat")


def test_a_sibling_with_the_same_beginning_is_outside() -> None:
    with pytest.raises(InvalidItem, match="leaves the catalogue's folder /data/cat"):
        resolve_href("../../../catalogue/B02.tif", BASE, "/data/cat")
    with pytest.raises(InvalidItem, match="leaves"):
        resolve_href("/catalogue/B02.tif", "https://example.com/cat/item.json", "https://example.com/cat")


@pytest.mark.parametrize(
    "href",
    [
        "file:///etc/passwd", "FILE:///data/cat/B02.tif", "/vsicurl/https://example.com/x.tif", "/vsizip/data/cat/x.zip",
        "/data/cat//vsisubfile/0,/etc/passwd", "vrt:///etc/x", "HDF5:/etc/x", "GTIFF_DIR:1:/etc/x", "data:text/plain,x", "x.vrt",
        "a/../x.VRT", "", "a\nb", "a\x00b", "ftp://example.com/x.tif", "https://example.com/x.vrt?y", "https://[::1/x.tif",
    ],
)  # fmt: skip
@pytest.mark.parametrize("base", [BASE, "https://example.com/cat/item.json"])
def test_hrefs_that_reach_other_files_are_refused(href: str, base: str) -> None:
    with pytest.raises(InvalidItem) as error:
        resolve_href(href, base, folder_of(base))
    assert base in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "href", ["https://example.org/x/../y.tif", "s3://eodata/x.jp2", "gs://b/x.tif", "http://h/x.tif?sig=1"]
)
@pytest.mark.parametrize("base", [BASE, "https://example.com/cat/item.json"])
def test_urls_may_point_anywhere_and_stay_as_they_are(href: str, base: str) -> None:
    assert resolve_href(href, base, folder_of(base)) == href


def test_absolute_paths_are_held_to_the_boundary() -> None:
    assert resolve_href("/data/cat/x.tif", BASE, "/data/cat") == "/data/cat/x.tif"
    with pytest.raises(InvalidItem, match="leaves"):
        resolve_href("/data/x.tif", BASE, "/data/cat")


def test_absolute_takes_paths_and_urls(monkeypatch: pytest.MonkeyPatch) -> None:
    assert absolute("a/../b.json") == os.path.join(os.getcwd(), "b.json")  # noqa: PTH109, PTH118
    assert absolute("file:///x/a%20b.json") == "/x/a b.json"
    assert absolute("https://h/a/../b") == "https://h/a/../b"
    monkeypatch.setenv("HOME", "/somewhere")
    assert absolute("~/x.tif") == "/somewhere/x.tif"
    assert not is_remote("/vsis3/x")
    assert is_remote("S3://x")


@pytest.mark.parametrize(
    ("href", "shown"),
    [
        ("https://me:secret@host:80/a?sig=secret#secret", "https://host:80/a"),
        # Not escaped, so that the URL's host ends within the password.
        ("https://me:pre/secret@host/a", "https://host/a"), ("https://me:/secret@host:80/a", "https://host:80/a"),
        ("https://me:pre#secret@host/a", "https://host/a"), ("https://me:pre?secret@host/a?sig=secret", "https://host/a"),
        ("https://me:1:2/secret@host/a", "https://host/a"), ("https://me:pre/se@cret@[::1]:80/a", "https://[::1]:80/a"),
        ("https://me:pre/secret@host/a?sig=x@secret", "https://host/a"), ("s3://me:pre/secret@host/a", "s3://host/a"),
    ],
)  # fmt: skip
def test_credentials_are_left_out_escaped_or_not(href: str, shown: str) -> None:
    assert without_credentials(href) == shown


@pytest.mark.parametrize(
    "href",
    [
        "https://host/a@2x.png", "https://host:80/a@2x.png", "https://[::1]/a@2x.png", "https://[::1]:80/a@2x.png",
        "s3://bucket/a:b@c", "/data/a:b@c/d", "a:b@c",
    ],
)  # fmt: skip
def test_an_at_sign_alone_is_no_password(href: str) -> None:
    assert without_credentials(href) == href
    assert without_credentials(href.replace("://", "://me:secret@")) == href
    if "://" in href:
        assert without_credentials(f"{href}?to=me:secret@host") == href
