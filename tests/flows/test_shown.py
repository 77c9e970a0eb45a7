"""What one sees in Prefect: links, tags, names, the page of a run, and forms in which every field is explained."""

from __future__ import annotations

import json
import logging
import re
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import httpx
import pytest
from prefect.artifacts import create_markdown_artifact

import flows.backfill_flow
import flows.decloud
import flows.evaluate_flow
import flows.pairs_flow
import flows.showing
import flows.train
import pipeline.runpage
from catalogs.geotiff import UNKNOWN_TIME
from catalogs.query import Query
from catalogs.search import search
from flows.artifacts import attempt, link_to
from flows.ledger import Ledger
from flows.request import AreaRequest
from flows.run import run_in_prefect
from flows.run_tags import TILES, found_tags, request_tags, scene_tags, tag_run
from pipeline.simulation.simulate import Simulated
from tests.flows.conftest import Decloud, MadeScene, area_run
from tests.flows.served import SERVED, last_run, task_runs
from tests.flows.test_backfill import WEEKLY, backfill
from tests.flows.test_backfill import request_of as backfill_of
from tests.flows.test_meter import request_of, shown

pytestmark = SERVED

FLOWS = (
    flows.decloud.decloud_aoi, flows.decloud.decloud_scene_flow, flows.backfill_flow.backfill, flows.train.train_flow,
    flows.evaluate_flow.evaluate_flow, flows.pairs_flow.build_pairs_flow,
)  # fmt: skip


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders whose page is written, each time it is."""
    real, written = pipeline.runpage.write_run_page, list[Path]()

    def counted(output: Path, *arguments: Any, **options: Any) -> Path:
        written.append(Path(output))
        return real(output, *arguments, **options)

    monkeypatch.setattr(pipeline.runpage, "write_run_page", counted)
    return written


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    """What runs warn of; with --quiet Prefect's logs hold errors only."""
    loggers = [logging.getLogger(name) for name in ("prefect.flow_runs", "prefect.task_runs")]
    before = [logger.level for logger in loggers]
    found = list[str]()

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record.getMessage())

    kept = Kept(logging.WARNING)
    for logger in loggers:
        logger.setLevel(logging.WARNING)
        logger.addHandler(kept)
    yield found
    for logger, level in zip(loggers, before, strict=True):
        logger.removeHandler(kept)
        logger.setLevel(level)


def target(artifact: Any) -> tuple[str, str]:
    """Text and URL of a link."""
    found = re.fullmatch(r"\[([^\]]+)\]\(([^)\s]+)\)", artifact.data)
    assert found is not None, artifact.data
    return found[1], found[2]


def test_each_scene_links_to_its_product_and_the_run_to_its_page(
    area: Simulated, tmp_path: Path, pages: list[Path]
) -> None:
    output = tmp_path / "out (1) ü"
    summary = run_in_prefect(request_of(area, output), quiet=True)
    tasks = task_runs(last_run().id)
    for scene in summary.scenes:
        key = "product-" + scene.scene.lower().replace("_", "-")
        (link,) = shown(key)
        assert link.task_run_id == tasks[scene.name].id
        text, url = target(link)
        assert urlsplit(url).scheme == "file"
        assert json.loads(Path(url2pathname(urlsplit(url).path)).read_text())["id"] == text
    (link,) = shown("decloud-report")
    text, url = target(link)
    assert (text, link.task_run_id) == ("report.html", None)
    assert "3 scenes" in Path(url2pathname(urlsplit(url).path)).read_text()
    assert pages == [output]


@pytest.mark.parametrize(
    ("place", "url"),
    [
        ("https://me:pw@host/a/S2B.json?sig=secret&se=1#x", "https://host/a/S2B.json"),
        ("s3://key:secret@bucket/a (b)/S2B.json?X-Amz-Signature=1", "s3://bucket/a%20%28b%29/S2B.json"),
        ("/data/50%/a]b.json", "file:///data/50%25/a%5Db.json"),
    ],
)
def test_a_link_holds_no_secret_and_fits_into_markdown(place: str, url: str) -> None:
    assert link_to(place) == url


def test_tags_by_which_runs_and_scenes_are_found(area: Simulated, tmp_path: Path) -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags, TaskRunFilter, TaskRunFilterTags
    from prefect.flow_engine import run_flow
    from prefect.states import Scheduled

    folder = area.catalogue.parent.name
    request = request_of(area, tmp_path, only=area.cloudy)
    with get_client(sync_client=True) as client:
        # As the server makes a run of a deployment: with the deployment's tags.
        run = client.create_flow_run(
            flows.decloud.decloud_aoi,
            parameters={"request": request.model_dump(mode="json")},
            tags=["declouder", "decloud"],
            state=Scheduled(scheduled_time=datetime.now(UTC)),
        )
        run_flow(flows.decloud.decloud_aoi, flow_run=run, parameters={"request": request}, return_type="state")
        wanted = ["declouder", "decloud", "checkpoint:identity", f"catalog:{folder}", "T33UWP"]
        assert sorted(client.read_flow_run(run.id).tags) == sorted(wanted)
        for tag in wanted:
            found = client.read_flow_runs(flow_run_filter=FlowRunFilter(tags=FlowRunFilterTags(all_=[tag])))
            assert run.id in [one.id for one in found]
        for tags, count in ((["T33UWP", "2023-07"], 1), (["2023-08"], 0)):
            scenes = client.read_task_runs(
                task_run_filter=TaskRunFilter(tags=TaskRunFilterTags(all_=tags)),
                flow_run_filter=FlowRunFilter.model_validate({"id": {"any_": [run.id]}}),
            )
            assert len(scenes) == count
    assert set(task_runs(run.id)["search"].tags) == set()


def test_tags_stay_few_and_hold_no_secret(area: Simulated, tmp_path: Path) -> None:
    (item,) = search(Query(ids=area.cloudy), str(area.catalogue))
    assert scene_tags(item) == ("T33UWP", "2023-07")
    unknown = item.__class__(**{**item.__dict__, "tile": None, "datetime": UNKNOWN_TIME})
    assert scene_tags(unknown) == ()
    many = [item.__class__(**{**item.__dict__, "tile": f"33U{n:02d}"}) for n in range(40)]
    assert len(found_tags([*many, *many])) == TILES
    for catalog, tag in (
        ("earth-search", "catalog:earth-search"),
        ("https://me:pw@stac.example.org/v1?sig=secret", "catalog:stac.example.org"),
        ("/data/alps/catalog.json", "catalog:alps"),
        ("/data/alps", "catalog:alps"),
        ("catalog.json", "catalog:catalog.json"),
    ):
        values = {"output": tmp_path, "aoi": "1,2,3,4", "dates": "2023", "part_of": "0123456789"}
        request = AreaRequest(catalog=catalog, settings={"checkpoint": "/models/field/best.safetensors"}, **values)
        assert request_tags(request) == ("checkpoint:field/best.safetensors", tag, "backfill:0123456789")


def test_windows_that_find_tiles_in_turn_make_no_more_tags_than_one_run(warnings: list[str]) -> None:
    from prefect import flow, get_run_logger

    tiles = [[f"T33U{letter}{other}" for other in "XYZABCDE"] for letter in "QB"]

    @flow
    def working() -> None:
        for found in tiles:
            tag_run(get_run_logger(), "backfill:0123456789", *found)

    working()
    tags = set(last_run().tags)
    assert tags > {"backfill:0123456789", *tiles[0]}
    assert len(tags) == 1 + TILES
    assert warnings == []


def test_names_hold_the_days_and_not_the_words(area: Simulated, tmp_path: Path) -> None:
    from prefect.client.orchestration import get_client
    from prefect.flow_engine import run_flow
    from prefect.states import Scheduled

    planned = datetime(2023, 7, 15, 5, tzinfo=UTC)
    request = request_of(area, tmp_path)
    for values, name in (
        ({"dates": "last 6 days"}, "decloud-aoi 2023-07-09/2023-07-15"),
        ({"dates": "P0D"}, "decloud-aoi P0D"),
        ({"dates": "2023-07-13", "part_of": "0123456789"}, "window 2023-07-13"),
    ):
        one = request.model_copy(update=values)
        with get_client(sync_client=True) as client:
            run = client.create_flow_run(
                flows.decloud.decloud_aoi,
                parameters={"request": one.model_dump(mode="json")},
                state=Scheduled(scheduled_time=planned),
            )
            run_flow(flows.decloud.decloud_aoi, flow_run=run, parameters={"request": one}, return_type="state")
            assert client.read_flow_run(run.id).name == name


def test_the_command_and_its_flow_write_one_page(
    area: Simulated, tmp_path: Path, decloud: Decloud, pages: list[Path]
) -> None:
    output = tmp_path / "run"
    ended = decloud(*area_run(area, output, "--prefect", "--dates", "2023-07-13"))
    assert (ended.status, pages) == (0, [output]), ended.err
    assert "1 scene of 2023-07-13: 1 done." in (output / "report.html").read_text()
    output = tmp_path / "backfill"
    pages.clear()
    ended = decloud(*backfill(area, output, *WEEKLY, "--prefect"))
    assert (ended.status, pages) == (0, [output]), ended.err
    assert "3 scenes from 2023-07-08 to 2023-07-18: 3 done." in (output / "report.html").read_text()
    assert "checkpoint:identity" in last_run().tags
    (tag,) = (tag for tag in last_run().tags if tag.startswith("backfill:"))
    assert Ledger(output, tag.partition(":")[2]).record.is_file()


def test_a_window_of_its_own_leaves_the_page_to_its_backfill(
    area: Simulated, tmp_path: Path, pages: list[Path]
) -> None:
    series = backfill_of(area, tmp_path)
    window = series.window(series.split(datetime.now(UTC))[0])
    assert not run_in_prefect(window, quiet=True).failed
    assert pages == []
    assert last_run().name == f"window {window.dates}"


def test_a_run_that_failed_has_its_page_too(scene: MadeScene, tmp_path: Path, decloud: Decloud) -> None:
    Path(scene.files[2]).write_bytes(Path(scene.files[2]).read_bytes()[:2000])
    ended = decloud(*scene.arguments(tmp_path / "out", "--quiet", "--prefect"))
    assert ended.status == 1
    assert "1 scene of 2023-08-10: 1 invalid." in (tmp_path / "out" / "report.html").read_text()
    assert last_run().state.is_failed()
    assert last_run().name == "decloud-scene T33UWP_20230810_B02.tif"


def test_a_page_that_cannot_be_written_is_a_warning(
    scene: MadeScene, tmp_path: Path, decloud: Decloud, warnings: list[str]
) -> None:
    (tmp_path / "out" / "report.html").mkdir(parents=True)
    ended = decloud(*scene.arguments(tmp_path / "out", "--quiet", "--prefect"))
    assert ended.status == 0
    (line,) = warnings
    assert line.startswith("no report.html: ")
    assert line.endswith("the products are not touched by that; try `decloud report`")
    assert last_run().state.is_completed()


@pytest.mark.parametrize("pause", [60, 0])
def test_a_server_that_takes_no_artifact_and_no_tag_costs_no_scene(
    scene: MadeScene, tmp_path: Path, decloud: Decloud, warnings: list[str], monkeypatch: pytest.MonkeyPatch, pause: int
) -> None:
    from prefect.client.orchestration import SyncPrefectClient

    monkeypatch.setattr(flows.showing, "PAUSE", float(pause))
    real, asked = SyncPrefectClient.request, list[str]()

    def faulty(client: SyncPrefectClient, method: str, path: str, **options: Any) -> Any:
        if path == "/artifacts/" or ((method, path) == ("PATCH", "/flow_runs/{id}") and "tags" in options["json"]):
            asked.append(path)
            raise httpx.ConnectError("refused")
        return real(client, method, path, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(SyncPrefectClient, "request", faulty)
    ended = decloud(*scene.arguments(tmp_path / "out", "--quiet", "--prefect", "--json"))
    assert ended.status == 0
    assert [entry["state"] for entry in ended.document["scenes"]] == ["done"]
    assert (tmp_path / "out" / "report.html").is_file()
    run = last_run()
    assert run.state.is_completed()
    whats = ("tags",) if pause else ("tags", "tags", "page", "table", "link to report.html")
    after = f"refused; the server is asked for nothing of that kind for {pause} s"
    assert warnings == [f"no {what} in Prefect: {after}" for what in whats]
    assert len(asked) == len(whats)


@pytest.fixture
def silent_server() -> Iterator[tuple[str, list[socket.socket]]]:
    """The URL of a server that takes connections and never says a word, and the connections."""
    taken = list[socket.socket]()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def take() -> None:
            with suppress(OSError):
                while True:
                    taken.append(server.accept()[0])

        thread = threading.Thread(target=take, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/api", taken
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
        for one in taken:
            one.close()


def test_a_server_that_says_nothing_is_asked_once_and_not_again_for_a_while(
    silent_server: tuple[str, list[socket.socket]], monkeypatch: pytest.MonkeyPatch, warnings: list[str]
) -> None:
    from prefect import flow, get_run_logger
    from prefect.settings import PREFECT_API_URL, PREFECT_LOGGING_TO_API_ENABLED, temporary_settings

    url, taken = silent_server
    monkeypatch.setattr(flows.showing, "TIMEOUT", 0.3)

    @flow
    def working() -> None:
        log = get_run_logger()
        # The run's own client has another server, which answers: what is shown must not go by that one.
        with temporary_settings({PREFECT_API_URL: url, PREFECT_LOGGING_TO_API_ENABLED: False}):
            for number in range(3):
                attempt(log, "page", lambda: create_markdown_artifact(markdown="here", key="never-shown"))
                tag_run(log, f"number:{number}")
            assert len(taken) == 1
            monkeypatch.setattr(flows.showing, "_silent_until", 0.0)
            tag_run(log, "later")
            assert len(taken) == 2
        flows.showing.answered()
        tag_run(log, "now")

    working()
    after = "timed out; the server is asked for nothing of that kind for 60 s"
    assert warnings == [f"no page in Prefect: {after}", f"no tags in Prefect: {after}"]
    assert last_run().tags == ["now"]
    assert shown("never-shown") == []


def test_what_the_server_refuses_is_no_reason_to_ask_it_for_nothing_else(warnings: list[str]) -> None:
    from prefect import flow, get_run_logger

    @flow
    def working() -> None:
        for key in ("Not_A_Key", "made-page"):
            attempt(get_run_logger(), "page", lambda: create_markdown_artifact(markdown="here", key=key))  # noqa: B023

    working()
    (line,) = warnings
    assert line.startswith("no page in Prefect: ")
    assert "the server is asked for nothing" not in line
    assert [one.data for one in shown("made-page")] == ["here"]


def test_ctrl_c_while_the_page_is_written_is_no_end_of_the_run(
    scene: MadeScene, tmp_path: Path, decloud: Decloud, warnings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(pipeline.runpage, "write_run_page", interrupted)
    ended = decloud(*scene.arguments(tmp_path / "out", "--quiet", "--prefect", "--json"))
    assert ended.status == 0, ended.err
    assert [entry["state"] for entry in ended.document["scenes"]] == ["done"]
    assert warnings == ["no report.html: interrupted; the products are complete; try `decloud report`"]
    assert last_run().state.is_completed()


def fields(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every field of a form, with those of the models inside it."""
    for place, node in (("", schema), *schema.get("definitions", {}).items()):
        for name, field in node.get("properties", {}).items():
            yield f"{place}.{name}", field


def test_every_field_of_every_form_on_the_server_has_a_help_text() -> None:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        for flow in FLOWS:
            made = flow.to_deployment("forms").apply()
            schema = client.read_deployment(made).parameter_openapi_schema
            found = dict(fields(schema))
            assert set(found) > {".request"}
            assert {name for name, field in found.items() if not str(field.get("description", "")).strip()} == set()
            client.delete_deployment(made)
    names = {path.name for path in Path(flows.decloud.__file__).parent.glob("*.py") if "\n@flow(" in path.read_text()}
    assert names == {Path(flow.fn.__code__.co_filename).name for flow in FLOWS}
