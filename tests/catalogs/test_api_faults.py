"""A real STAC API behind a proxy that fails as it is told: what a search gives then, and what it says where it gives nothing."""

from __future__ import annotations

import gzip
import socket
import time
from collections.abc import Iterator
from email.utils import formatdate
from typing import Any

import pytest

from catalogs.aoi import parse_aoi
from catalogs.dates import parse_dates
from catalogs.errors import CatalogError, InvalidItem, InvalidQuery, SourceUnavailable
from catalogs.patience import Patience
from catalogs.query import Query
from catalogs.search import search
from tests.catalogs import faults
from tests.catalogs.faults import Handler, Proxy, proxy, status

QUERY = Query(parse_aoi("15.2,45.2,16.2,45.9"), *parse_dates("2023-08-01/2023-08-31"))


@pytest.fixture
def api(rustac: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    patient(monkeypatch)
    with proxy(rustac.rstrip("/")) as made:
        yield made


def patient(monkeypatch: pytest.MonkeyPatch, **limits: Any) -> None:
    chosen = {"first_wait": 0.02, "seed": "test"} | limits
    monkeypatch.setattr("catalogs.connection.PATIENCE", Patience(**chosen))


def found(api: Proxy, query: Query = QUERY) -> list[str]:
    result = search(query, api.url)
    assert result.problems == ()
    return [item.id.split("_")[2] for item in result]


def said(api: Proxy, kind: type[CatalogError], url: str | None = None) -> str:
    with pytest.raises(kind) as error:
        search(QUERY, url or api.url)
    text = str(error.value)
    assert text.startswith((f"{api.url}/search: ", f"{api.url}: "))
    assert "\n" not in text
    return text


FIVE = ["20230810", "20230813", "20230815", "20230818", "20230820"]


# --- answers that may be better next time


def test_waits_grow_from_try_to_try(api: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {"first_wait": 0.05, "seed": "waits"}
    patient(monkeypatch, **limits)
    api.fail(status(500), status(502), status(504), status(503))
    assert found(api) == FIVE
    waits = list(Patience(**limits).waits())
    assert [gap >= wait for gap, wait in zip(api.gaps(), waits, strict=True)] == [True] * 4
    assert all(0.05 * 2**number <= wait <= 0.075 * 2**number for number, wait in enumerate(waits))


def test_waits_are_those_of_the_seed() -> None:
    one, same, other = (list(Patience(seed=seed).waits()) for seed in "aab")
    assert one == same != other
    assert len(one) == 4
    assert max(Patience(tries=20, longest_wait=3).waits()) == 3
    assert list(Patience(tries=1).waits()) == []
    with pytest.raises(InvalidQuery, match="at least one try"):
        Patience(tries=0)
    with pytest.raises(InvalidQuery, match="greater than 0"):
        Patience(total=0)


@pytest.mark.parametrize("code", [429, 503])
@pytest.mark.parametrize("as_date", [False, True])
def test_retry_after_is_waited_for(api: Proxy, code: int, as_date: bool) -> None:
    api.fail(status(code, Retry_After=formatdate(time.time() + 2.5, usegmt=True) if as_date else "1"))
    assert found(api) == FIVE
    # A date has whole seconds.
    assert api.gaps()[0] >= (0.5 if as_date else 1)


def test_a_retry_after_that_says_nothing_is_passed_over(api: Proxy) -> None:
    past = formatdate(time.time() - 60, usegmt=True)
    api.fail(*(status(429, Retry_After=text) for text in ("soon", "-5", "1" * 400, past)))
    with pytest.raises(SourceUnavailable, match="try again in"):
        search(QUERY, api.url)  # 400 digits are a number, and a long wait
    assert len(api.asked) == 5


def test_a_retry_after_beyond_the_limit_ends_it_at_once(api: Proxy) -> None:
    api.fail(status(429, '{"code": "TooMany", "description": "quota used up"}', Retry_After="3600"))
    text = said(api, SourceUnavailable)
    assert text.endswith("no answer after one try in 0 s: status 429: quota used up: try again in 3600 s")
    assert len(api.gaps()) == 0


def test_a_limit_in_total_time(api: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    patient(monkeypatch, tries=1000, total=1, longest_wait=0.1)
    api.fail(*[status(503)] * 1000)
    start = time.monotonic()
    assert "status 503: busy: try again later" in said(api, SourceUnavailable)
    assert time.monotonic() - start < 20
    assert 3 <= len(api.gaps()) < 100


def test_a_server_that_says_nothing(api: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    patient(monkeypatch, tries=2, silence=0.3)
    api.fail(faults.silent, faults.silent)
    assert "no answer after 2 tries" in (text := said(api, SourceUnavailable))
    assert "silent for too long" in text


def test_a_slow_answer_is_an_answer(api: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    patient(monkeypatch, silence=30)
    api.edit(lambda document: time.sleep(1) or document)
    assert found(api) == FIVE
    assert api.gaps() == []


def test_an_answer_that_trickles_in_has_an_end(api: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    patient(monkeypatch, total=1, silence=30)
    api.fail(faults.trickling)
    assert "still sending after 1 s" in said(api, SourceUnavailable)


@pytest.mark.parametrize("fault", [faults.cut, faults.cut_but_whole])
def test_an_answer_that_breaks_off_is_asked_for_again(api: Proxy, fault: faults.Answer) -> None:
    api.fail(fault, fault)
    assert found(api) == FIVE
    api.fail(*[fault] * 5)
    assert "no answer after 5 tries" in (text := said(api, SourceUnavailable))
    assert "breaks off" in text or "the answer of 58 bytes is cut off (" in text


def test_nobody_is_listening(api: Proxy) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        api.url = f"http://127.0.0.1:{free.getsockname()[1]}"
    text = said(api, SourceUnavailable)
    assert "no answer after 5 tries" in text
    assert text.endswith("Connection refused: try again later")


def test_a_host_that_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    def busy(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    # A resolver of our own is not at hand, and asking the machine's own would leave it.
    patient(monkeypatch, tries=3)
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(SourceUnavailable) as error:
        search(QUERY, "http://me:pw@stac.invalid/v1?key=secret")
    assert str(error.value) == "http://stac.invalid/v1: no host of that name is known: check the name and the network"
    monkeypatch.setattr(socket, "getaddrinfo", busy)
    with pytest.raises(SourceUnavailable, match="3 tries in 0 s: its name cannot be looked up"):
        search(QUERY, "http://stac.invalid/v1")


# --- answers that will be the same next time


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (400, "refused with status 400: busy"),
        (401, "it wants a user and a password"),
        (403, "refused with status 403: busy"),
        (404, "check the address"),
        (501, "refused with status 501: busy"),
    ],
)
def test_a_refusal_is_not_asked_about_again(api: Proxy, code: int, says: str) -> None:
    api.fail(status(code))
    assert says in said(api, InvalidQuery)
    assert api.gaps() == []


def test_what_an_error_page_says(api: Proxy) -> None:
    for text, says in (
        ("<html>oops</html>", "refused with status 400: Bad Request"),
        ("plain\n  words", "refused with status 400: plain words"),
        ('{"detail": [{"msg": "bad limit"}]}', '400: [{"msg": "bad limit"}]'),
        ("[" * 50_000, "refused with status 400: [[["),
        ("", "refused with status 400: Bad Request"),
    ):
        api.fail(status(400, text))
        assert says in (line := said(api, InvalidQuery))
        assert len(line) < 600


def test_a_page_to_sign_in_is_no_catalogue(api: Proxy) -> None:
    api.fail(status(200, "<html>sign in</html>", "text/html; charset=utf-8"))
    assert "answers with text/html, which is not JSON" in said(api, InvalidQuery)
    api.fail(status(200, "<html>sign in</html>", "text/html"), path="/")
    assert "perhaps a page to sign in stands before it" in said(api, InvalidItem)
    assert len(api.gaps()) == 0


@pytest.mark.parametrize("media", ["text/plain", "binary/octet-stream", "text/html", ""])
def test_json_is_json_by_whatever_name(api: Proxy, media: str) -> None:
    api.fail(status(200, '{"type": "FeatureCollection", "features": []}', media))
    assert found(api) == []


def test_an_answer_too_large_to_be_a_catalogue(api: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    patient(monkeypatch, largest=2 << 20)
    packed = gzip.compress(b'{"a": "' + b" " * (40 << 20) + b'"}')

    def bomb(handler: Handler) -> None:
        handler.reply(packed, Content_Encoding="gzip")

    assert len(packed) < 100_000
    for fault in (faults.endless, bomb):
        api.fail(fault)
        assert "answers with more than 2 MiB: is it a catalogue?" in said(api, InvalidQuery)
    assert len(api.gaps()) == 1


def test_no_error_shows_credentials(api: Proxy) -> None:
    url = api.url.replace("http://", "http://me:hunter22@") + "/?token=s3cret%2Ftoken"
    echo = '{"description": "s3cret/token of me:hunter22@ in ?token=s3cret%2Ftoken is not known"}'
    for answer, kind in (
        (status(401, echo), InvalidItem),
        (status(200, "<html>", "text/html"), InvalidItem),
        (status(200, '{"type": "Nothing"}'), InvalidQuery),
        (status(503, echo, Retry_After="999"), SourceUnavailable),
        (faults.cut, SourceUnavailable),
    ):
        api.fail(*[answer] * 5, path="/?token")
        with pytest.raises(kind) as error:
            search(QUERY, url)
        shown = f"{error.value} {error.value.__cause__}"
        assert not any(secret in shown for secret in ("hunter22", "s3cret"))
        api._plan.clear()
    # With them every request to that host, and no product's name, is signed.
    api.asked.clear()
    result = search(QUERY, url)
    assert len(result) == 5
    assert {asked.authorization for asked in api.asked} == {"Basic bWU6aHVudGVyMjI="}
    assert not any("hunter22" in item.origin or "s3cret" in item.origin for item in result)


# --- what an API says of itself


def test_an_api_without_item_search(api: Proxy) -> None:
    def without_search(landing: dict[str, Any]) -> dict[str, Any]:
        kept = [link for link in landing["links"] if link["rel"] in ("root", "self", "data")]
        conforms = [name for name in landing["conformsTo"] if "item-search" not in name]
        return landing | {"links": kept, "conformsTo": conforms}

    api.edit(without_search, path="/")
    assert "an API without item search (conformance `item-search`)" in said(api, InvalidQuery)
    # A link to the search is word enough, and so is the word without the link.
    api.edit(lambda landing: landing | {"conformsTo": ["https://api.stacspec.org/v1.0.0/core"]}, path="/")
    assert found(api) == FIVE
    api.edit(lambda landing: without_search(landing) | {"conformsTo": landing["conformsTo"]}, path="/")
    assert found(api) == FIVE
    api.edit(lambda landing: without_search(landing) | {"conformsTo": 7}, path="/")
    assert "an API without item search" in said(api, InvalidQuery)


def test_collections_that_do_not_exist(api: Proxy) -> None:
    query = Query(QUERY.aoi, collections=("sentinel-2-l2a", "sentinel-2-c2a"))
    with pytest.raises(InvalidQuery) as error:
        search(query, api.url)
    assert str(error.value) == f"{api.url}: has no collection 'sentinel-2-c2a': it has sentinel-2-l2a"
    assert found(api, Query(QUERY.aoi, collections=("sentinel-2-l2a",))) == FIVE
    api.edit(lambda document: document | {"collections": []}, path="/collections")
    with pytest.raises(InvalidQuery, match="has no collection 'sentinel-2-l2a': it has none"):
        search(Query(QUERY.aoi, collections=("sentinel-2-l2a",)), api.url)
