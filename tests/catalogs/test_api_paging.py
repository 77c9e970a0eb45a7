"""Paging through a real STAC API, and through one whose pages are not as they should be; by GET in `test_api_pgstac`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from catalogs.aoi import parse_aoi
from catalogs.dates import parse_dates
from catalogs.errors import InvalidQuery, SourceUnavailable
from catalogs.patience import Patience
from catalogs.query import Query
from catalogs.search import search
from tests.catalogs.faults import Proxy, proxy, status

QUERY = Query(parse_aoi("15.2,45.2,16.2,45.9"), *parse_dates("2023-08-01/2023-08-31"))
FIVE = ["20230810", "20230813", "20230815", "20230818", "20230820"]


@pytest.fixture
def api(rustac: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    monkeypatch.setattr("catalogs.connection.PATIENCE", Patience(first_wait=0.01, seed="test"))
    monkeypatch.setattr("catalogs.api.PAGE", 2)
    with proxy(rustac.rstrip("/")) as made:
        yield made


def found(api: Proxy) -> list[str]:
    result = search(QUERY, api.url)
    assert result.problems == ()
    return [item.id.split("_")[2] for item in result]


def searches(api: Proxy) -> list[str]:
    return [asked.method for asked in api.asked if asked.path.startswith("/search")]


def test_every_page_is_asked_for(api: Proxy) -> None:
    assert found(api) == FIVE
    assert searches(api) == ["POST"] * 3


def test_an_empty_page_with_a_next_link_is_not_the_end(api: Proxy) -> None:
    def emptied(page: dict[str, Any]) -> dict[str, Any]:
        held_back.extend(page["features"])
        return page | {"features": []}

    held_back: list[dict[str, Any]] = []
    api.edit(emptied, emptied)
    assert len(found(api)) == 1
    assert len(held_back) == 4
    assert searches(api) == ["POST"] * 3


def test_a_body_to_be_merged_with_the_first_one(api: Proxy) -> None:
    def merged(page: dict[str, Any]) -> dict[str, Any]:
        for link in page["links"]:
            if link["rel"] == "next":
                first = api.asked[-1].body
                link |= {"merge": True, "body": {k: v for k, v in link["body"].items() if first.get(k) != v}}
        return page

    api.edit(merged)
    assert found(api) == FIVE
    bodies = [asked.body for asked in api.asked if asked.path == "/search"]
    assert all(body["intersects"] == bodies[0]["intersects"] for body in bodies)


def test_a_link_relative_to_its_page(api: Proxy) -> None:
    def relative(page: dict[str, Any]) -> dict[str, Any]:
        for link in page["links"]:
            link["href"] = link["href"].replace(f"{api.url}/", "./")
        return page

    api.edit(relative, relative)
    assert found(api) == FIVE


def test_a_link_back_to_the_same_page_is_no_result(api: Proxy) -> None:
    def back(page: dict[str, Any]) -> dict[str, Any]:
        return page | {
            "links": [{"rel": "next", "href": f"{api.url}/search", "method": "POST", "body": api.asked[-1].body}]
        }

    api.edit(back)
    with pytest.raises(SourceUnavailable) as error:
        search(QUERY, api.url)
    assert str(error.value).startswith(f"{api.url}/search: its pages go in circles after 2 entries: narrow the area")


def test_tokens_that_change_nothing_have_an_end(api: Proxy) -> None:
    def onwards(page: dict[str, Any]) -> dict[str, Any]:
        link = {"rel": "next", "href": f"{api.url}/search?limit=2&ignored={len(api.asked)}"}
        return page | {"links": [link]}

    api.edit(*[onwards] * 100)
    with pytest.raises(SourceUnavailable, match="go in circles"):
        search(QUERY, api.url)
    assert 20 <= len(searches(api)) <= 22


def test_a_page_that_comes_twice_counts_once(api: Proxy) -> None:
    """As where an item is put in before the others between two pages."""
    first: list[dict[str, Any]] = []

    def again(page: dict[str, Any]) -> dict[str, Any]:
        return page | {"features": first[0]["features"] + page["features"]}

    api.edit(lambda page: first.append(page) or page, again, again)
    assert found(api) == FIVE


@pytest.mark.parametrize(
    "link",
    [
        {"href": "file:///etc/passwd"},
        {"href": "/search", "method": "DELETE"},
        {"href": "/search", "method": "POST", "body": [1]},
        {"href": "/search", "headers": "x"},
    ],
)
def test_a_link_that_cannot_be_followed(api: Proxy, link: dict[str, Any]) -> None:
    api.edit(lambda page: page | {"links": [{"rel": "next"} | link]})
    with pytest.raises(InvalidQuery, match="its link to the next page cannot be followed"):
        search(QUERY, api.url)
    assert len(searches(api)) == 1


@pytest.mark.parametrize("page", [{}, {"features": None}, {"features": {"a": 1}}, {"type": "Feature", "assets": {}}])
def test_what_is_no_page(api: Proxy, page: dict[str, Any]) -> None:
    api.edit(lambda _: page)
    with pytest.raises(InvalidQuery, match="answers with no page of items or collections"):
        search(QUERY, api.url)


def test_one_bad_feature_among_good_ones_is_reported(api: Proxy) -> None:
    api.edit(lambda page: page | {"features": [7, {"id": "x"}, *page["features"]]})
    result = search(QUERY, api.url)
    assert len(result) == 5
    assert [problem.reason.split(":")[0] for problem in result.problems] == [
        "a feature is no object",
        "is no STAC item (type None, or no assets)",
    ]


def test_a_failure_in_the_middle_is_not_half_a_result(api: Proxy) -> None:
    api.edit(lambda page: page)
    api.fail(*[status(502)] * 5)
    with pytest.raises(SourceUnavailable, match="status 502"):
        search(QUERY, api.url)
