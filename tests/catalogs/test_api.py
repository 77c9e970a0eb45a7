"""Against real servers: rustac's STAC API, and small ones of the standard library for what a good API never does."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, ClassVar

import pytest

from catalogs.aoi import parse_aoi
from catalogs.dates import parse_dates
from catalogs.errors import InvalidQuery, SourceUnavailable
from catalogs.query import Query
from catalogs.search import search
from catalogs.sources import known_sources
from tests.catalogs.conftest import make_item, serving

CROATIA = parse_aoi("15.2,45.2,16.2,45.9")
AUGUST = parse_dates("2023-08-01/2023-08-31")


@pytest.mark.parametrize("page", [1, 2, 100])
def test_an_api_gives_what_the_static_catalogue_gives(
    rustac: str, shared_data: Path, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    monkeypatch.setattr("catalogs.api.PAGE", page)
    for query in (
        Query(CROATIA, *AUGUST),
        Query(CROATIA, *parse_dates("2023-08-13/2023-08-18")),
        Query(CROATIA, tile="33TWL"),
    ):
        from_api = search(query, rustac)
        from_files = search(query, str(shared_data / "stac" / "earth-search"))
        assert [item.id for item in from_api] == [item.id for item in from_files]
        assert len(from_api) >= 3
        assert from_api.problems == ()
        assert all(item.origin == f"{rustac}collections/sentinel-2-l2a/items/{item.id}" for item in from_api)
    assert from_api[0].bands["B02"].offset == 0.0


def test_an_api_without_matches(rustac: str) -> None:
    assert len(search(Query(parse_aoi("17,45,18,46"), *AUGUST), rustac)) == 0
    assert len(search(Query(CROATIA, *parse_dates("2022-01-01")), rustac)) == 0


def test_an_api_is_never_asked_for_the_whole_earth(rustac: str) -> None:
    with pytest.raises(InvalidQuery, match="name an area"):
        search(Query(None, *AUGUST), rustac)


class Api(BaseHTTPRequestHandler):
    """A STAC API of one page, which fails as told."""

    failures: ClassVar[list[int]] = []
    status = 200
    features: ClassVar[list[Any]] = []
    asked: ClassVar[list[dict[str, Any]]] = []

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass

    def do_GET(self) -> None:
        root = "http://{}".format(self.headers["Host"])
        if self.path.startswith("/collections"):
            document: Any = {"collections": [{"type": "Collection", "id": "sentinel-2-l2a", "stac_version": "1.0.0", "description": "x", "license": "other", "extent": {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [[None, None]]}}, "links": []}], "links": []}  # fmt: skip
        else:
            document = {
                "type": "Catalog", "id": "api", "stac_version": "1.0.0", "description": "x",
                "conformsTo": ["https://api.stacspec.org/v1.0.0/core", "https://api.stacspec.org/v1.0.0/item-search", "https://api.stacspec.org/v1.0.0/collections"],
                "links": [{"rel": "search", "href": f"{root}/search", "method": "POST"}, {"rel": "data", "href": f"{root}/collections"}, {"rel": "root", "href": f"{root}/"}, {"rel": "self", "href": f"{root}/"}],
            }  # fmt: skip
        self._send(200, document)

    def do_POST(self) -> None:
        self.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        if self.failures:
            self._send(self.failures.pop(), {"description": "busy"})
        else:
            self._send(self.status, {"type": "FeatureCollection", "features": self.features, "links": []})

    def _send(self, status: int, document: Any) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def api() -> Iterator[str]:
    Api.failures, Api.status, Api.asked = [], 200, []
    Api.features = [
        make_item("good"),
        make_item("a/b"),
        make_item("far", geometry={"type": "Point", "coordinates": [0, 0]}),
    ]
    with serving(Api) as url:
        yield url


@pytest.mark.usefixtures("quick_retries")
def test_a_busy_server_is_asked_again(api: str) -> None:
    Api.failures = [503, 429, 500]
    result = search(Query(CROATIA, *AUGUST), api)
    # The server did not filter; we do, and report what cannot be used.
    assert [item.id for item in result] == ["good"]
    assert [problem.href for problem in result.problems] == [f"{api}/collections/None/items/a/b"]
    assert len(Api.asked) == 4
    assert Api.asked[-1]["collections"] == ["sentinel-2-l2a"]
    assert Api.asked[-1]["intersects"]["type"] == "Polygon"
    assert Api.asked[-1]["datetime"] == "2023-08-01T00:00:00Z/2023-08-31T23:59:59.999999Z"


@pytest.mark.usefixtures("quick_retries")
def test_a_server_that_stays_down_is_unavailable(api: str) -> None:
    Api.status = 503
    with pytest.raises(SourceUnavailable) as error:
        search(Query(CROATIA), api)
    assert str(error.value).startswith(api)
    assert "\n" not in str(error.value)


def test_a_query_that_is_refused_is_not_repeated(api: str) -> None:
    Api.status = 400
    with pytest.raises(InvalidQuery, match="refused with status 400"):
        search(Query(CROATIA), api)
    assert len(Api.asked) == 1


@pytest.mark.usefixtures("quick_retries")
def test_no_server_at_all() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/catalog.json"
    with pytest.raises(SourceUnavailable, match="no answer"):
        search(Query(CROATIA), url)


def test_a_known_name_is_its_api_with_its_collection_and_tile_filter(api: str, monkeypatch: pytest.MonkeyPatch) -> None:
    here = {name: replace(rules, url=api) for name, rules in known_sources().items()}
    monkeypatch.setattr("catalogs.search.known_sources", lambda: here)
    Api.features = [make_item("good", {"blue": {"href": "https://e.com/B02.tif"}})]
    [item] = search(Query(tile="33TWL"), "earth-search")
    assert item.bands["B02"].key == "blue"
    assert Api.asked[-1]["collections"] == ["sentinel-2-l2a"]
    assert Api.asked[-1]["query"] == {"grid:code": {"eq": "MGRS-33TWL"}}
    with pytest.raises(InvalidQuery, match="planetary-computer has no L1C: it has L2A"):
        search(Query(CROATIA, level="L1C"), "planetary-computer")
    with pytest.raises(InvalidQuery, match="name an area"):
        search(Query(tile="33TWL"), "cdse")
