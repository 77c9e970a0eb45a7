"""Whole scenes from and to buckets and servers: the pixels and checksums of local ones, whoever looks from wherever."""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.session import AWSSession

from catalogs.query import Query
from catalogs.search import search
from flows.request import make_request
from flows.state import read_state
from pipeline.abandoned import remove_abandoned
from pipeline.address import address, output_path
from pipeline.engine import decloud_scene
from pipeline.folders import STAGING
from pipeline.journal import Journal, latest
from pipeline.lock import locked
from pipeline.output import find_product
from pipeline.publish import products_of, publish, published_items, read_file
from pipeline.runner import run_scene, run_scenes
from pipeline.storage import storage_of

from .conftest import KEY, SECRET
from .test_engine import IDENTITY, scene
from .test_publish import make_item, stage
from .test_storage_inputs import QUERY, Server, started  # noqa: F401 - a fixture

NAME = "S2A_33TWL_20230810_0_L2A"


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """A scene on this disk and its product; read only."""
    folder = tmp_path_factory.mktemp("local")
    item = scene(folder / NAME)
    return item, decloud_scene(item, folder / "out", IDENTITY)


def moved(item, start: str, query: str = ""):
    """The same scene with its files elsewhere."""
    bands = {n: replace(a, href=f"{start}/{Path(a.href).name}{query}") for n, a in item.bands.items()}
    return replace(item, bands=bands, scl=replace(item.scl, href=f"{start}/{Path(item.scl.href).name}{query}"))


def test_a_run_to_a_bucket_makes_the_local_product(bucket, local, caplog):
    caplog.set_level(logging.DEBUG)
    item, local = local
    output = output_path(f"{bucket.url}/products/2023")
    journal = Journal(output)
    first = run_scene(item, output, IDENTITY, journal=journal)
    assert (first.state, first.reason) == ("done", "")
    product = first.product
    assert product.id == local.id
    assert address(product.path) == f"{bucket.url}/products/2023/{local.id}/{local.id}.json"
    manifest = (local.folder / "manifest.sha256").read_bytes()
    prefix = f"products/2023/{local.id}"
    assert bucket.get(f"{prefix}/manifest.sha256") == manifest
    for path in local.folder.iterdir():
        if path.suffix != ".json":
            assert bucket.get(f"{prefix}/{path.name}") == path.read_bytes()
    # rasterio with boto3's credentials, which knows nothing of ours.
    host = os.environ["AWS_ENDPOINT_URL"].removeprefix("http://")
    session = AWSSession(
        aws_access_key_id=KEY, aws_secret_access_key=SECRET, region_name="us-east-1", endpoint_url=host
    )
    with (
        rasterio.Env(session, AWS_HTTPS="NO", AWS_VIRTUAL_HOSTING="FALSE"),
        rasterio.open(f"s3://{bucket.name}/{prefix}/B02.tif") as remote,
        rasterio.open(local.folder / "B02.tif") as own,
    ):
        np.testing.assert_array_equal(remote.read(1), own.read(1))
    # The same again does nothing, and another recipe follows the first.
    assert run_scene(item, output, IDENTITY, journal=journal).state == "unchanged"
    other = decloud_scene(item, output, IDENTITY.model_copy(update={"grow": 0}))
    (link,) = [link for link in other.item["links"] if link["rel"] == "predecessor-version"]
    assert link["href"] == f"../{local.id}/{local.id}.json"
    assert products_of(output, NAME) == [local.id, other.id]
    assert read_file(f"{bucket.url}/{prefix}/thumbnail.png") == (local.folder / "thumbnail.png").read_bytes()
    # Nothing is left in the making, and no credential anywhere.
    assert not list((output / STAGING).iterdir())
    everything = b"".join(bucket.get(key) for key in bucket.keys("") if not key.endswith(".tif"))
    everything += b"".join(path.read_bytes() for path in output.rglob("*") if path.is_file())
    assert SECRET.encode() not in everything
    assert KEY.encode() not in everything
    assert SECRET not in caplog.text


def test_another_machine_sees_what_was_done(bucket, tmp_path, monkeypatch):
    item, output = scene(tmp_path / NAME), output_path(f"{bucket.url}/out")
    journal = Journal(output)
    journal.write("never", "planned")
    journal.write("begun", "running")
    run_scene(item, output, IDENTITY, journal=journal)
    journal.write("bad", "failed", "disk full")
    monkeypatch.setenv("DECLOUD_SCRATCH", str(tmp_path / "elsewhere"))
    there = output_path(f"{bucket.url}/out")
    assert not there.exists()
    states = {scene.scene: (scene.state, scene.reason) for scene in read_state(there).scenes}
    assert states == {
        "never": ("planned", ""), "begun": ("running", ""), "bad": ("failed", "disk full"), NAME: ("done", ""),
    }  # fmt: skip
    journal.write("bad", "done", product=published_items(output)[0])
    read_state(there)
    assert latest(there)["bad"].state == "done"
    assert find_product(there, published_items(output)[0]).unchanged
    monkeypatch.setattr("platform.node", lambda: "another")
    assert latest(there)["begun"].state == "running"


def test_what_was_killed_before_its_link_is_linked_by_the_next_run(bucket, tmp_path):
    for output in (tmp_path / "local", output_path(f"{bucket.url}/out")):
        publish(stage(output), output, make_item("S2_A"))
        publish(stage(output), output, make_item("S2_B"))
        empty = {"type": "Catalog", "links": []}
        if output.name == "local":
            (output / "catalog.json").write_text(json.dumps(empty))
        else:
            bucket.put("out/catalog.json", json.dumps(empty).encode())
        assert find_product(output, "S2_B") is not None
        text = read_file(address(output / "catalog.json")).decode()
        assert "./S2_A/S2_A.json" in text
        assert "./S2_B/S2_B.json" in text


def test_the_catalogue_in_a_bucket_is_searched_like_the_local_one(bucket, local, tmp_path):
    item, product = local
    output = output_path(f"{bucket.url}/out")
    decloud_scene(item, output, IDENTITY)
    for source in (f"{bucket.url}/out", f"{bucket.url}/out/catalog.json"):
        (ours,), (theirs,) = search(Query(), str(product.folder.parent)), search(Query(), source)
        assert (ours.id, list(ours.bands), ours.datetime) == (theirs.id, list(theirs.bands), theirs.datetime)
        assert theirs.bands["B02"].href == f"{bucket.url}/out/{ours.id}/B02.tif"
    again = decloud_scene(theirs, tmp_path / "again", IDENTITY)
    with rasterio.open(again.folder / "B02.tif") as made, rasterio.open(ours.bands["B02"].href) as source_file:
        assert made.shape == source_file.shape


@pytest.mark.parametrize("kind", ["s3", "http", "http that fails"])
def test_remote_inputs_give_the_bytes_of_local_ones(bucket, local, tmp_path, started, monkeypatch, caplog, kind):  # noqa: F811
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("GDAL_HTTP_RETRY_DELAY", "0.02")
    server: Server = started
    item, local = local
    folder = Path(item.scl.href).parent
    if kind == "s3":
        bucket.put_tree(folder, "scene")
        remote = moved(item, f"{bucket.url}/scene")
    else:
        for path in folder.iterdir():
            (server.folder / path.name).write_bytes(path.read_bytes())
        remote = moved(item, server.url, QUERY)
    server.fault(**({"mode": "cut", "after": 5, "times": 4} if kind == "http that fails" else {}))
    product = decloud_scene(remote, tmp_path / "remote", IDENTITY)
    manifest = (local.folder / "manifest.sha256").read_bytes()
    assert (product.folder / "manifest.sha256").read_bytes() == manifest
    # Another signature, another password: the same product.
    if kind == "http":
        other = moved(item, server.url, "?sig=another&X-Amz-Signature=another")
        assert decloud_scene(other, tmp_path / "remote", IDENTITY).unchanged
    told = caplog.text + product.path.read_text()
    assert "hush-hush" not in told
    assert SECRET not in told


def test_a_server_that_stays_away_is_a_failure_that_may_pass(tmp_path, started, monkeypatch):  # noqa: F811
    monkeypatch.setenv("GDAL_HTTP_RETRY_DELAY", "0.02")
    item = scene(tmp_path / NAME)
    for path in (tmp_path / NAME).iterdir():
        (started.folder / path.name).write_bytes(path.read_bytes())
    started.fault(mode="status", code=503, after=12)
    output = tmp_path / "out"
    ended = run_scene(moved(item, started.url, QUERY), output, IDENTITY, journal=Journal(output))
    assert ended.state == "failed"
    assert "perhaps only now" in ended.reason
    assert "hush-hush" not in ended.reason + "".join(path.read_text() for path in (output / "runs").iterdir())
    started.fault()
    assert run_scene(moved(item, started.url, QUERY), output, IDENTITY, journal=Journal(output)).state == "done"


def test_a_request_names_the_bucket_and_not_the_folder_of_work(tmp_path, monkeypatch):
    monkeypatch.setenv("DECLOUD_SCRATCH", str(tmp_path))
    asked = {"kind": "scenes", "sources": ["a.tif"], "output": "s3://bucket/out"}
    request = make_request(asked)
    assert request.output == output_path("s3://bucket/out")
    assert request.stored().model_dump(mode="json")["output"] == "s3://bucket/out"
    assert make_request(request.model_dump(mode="json")) == request


def test_what_was_given_up_is_removed_once_it_is_old(tmp_path):
    def made(name: str, days: float, *, lock: bool = False) -> Path:
        folder = tmp_path / STAGING / name / "blocks"
        folder.mkdir(parents=True)
        (folder / "0_1_0_1.npz").write_bytes(b"x")
        if lock:
            (tmp_path / STAGING / f"{name}.lock").touch()
        past = time.time() - days * 86400
        for path in (*(tmp_path / STAGING).glob(f"{name}*"), folder, folder / "0_1_0_1.npz"):
            os.utime(path, (past, past))
        return folder.parent

    old, killed, young, live = made("old", 8), made("killed", 30, lock=True), made("young", 6), made("live", 40)
    busy = made("busy", 40)
    (busy / "blocks" / "new.npz").write_bytes(b"x")
    with locked(tmp_path / STAGING / "live.lock"):
        past = time.time() - 40 * 86400
        os.utime(tmp_path / STAGING / "live.lock", (past, past))
        publish(stage(tmp_path / "x"), tmp_path / "x", make_item("S2_A"))
        assert remove_abandoned(tmp_path) == ["killed", "old"]
    assert [path.exists() for path in (old, killed, young, live, busy)] == [False, False, True, True, True]
    assert sorted(path.name for path in (tmp_path / STAGING).iterdir()) == ["busy", "live", "young"]
    assert remove_abandoned(tmp_path / "nowhere") == []


def test_looking_for_what_was_given_up_bears_that_others_tidy_up_meanwhile(tmp_path, monkeypatch):
    """A folder goes between being listed and being looked into, as when another process has just finished its scene."""
    blocks = tmp_path / STAGING / "theirs" / "blocks"
    blocks.mkdir(parents=True)
    scandir = os.scandir

    def finished(path):
        entries = scandir(path)
        if Path(path) == blocks.parent:
            blocks.rmdir()
        return entries

    monkeypatch.setattr(os, "scandir", finished)
    assert remove_abandoned(tmp_path) == []
    assert not blocks.exists()


def test_names_that_lead_out_of_the_folder_of_work_are_left_in_the_bucket(bucket, tmp_path):
    output = output_path(f"{bucket.url}/out")
    Journal(output, "good").write("a", "done")
    shutil.rmtree(output)
    for name in ("../../outside.jsonl", "below/x.jsonl", ".hidden.jsonl"):
        bucket.put(f"out/runs/{name}", b"{}")
    assert storage_of(output).bring()
    assert [path.name for path in (output / "runs").iterdir()] == ["good.jsonl"]
    assert not list(tmp_path.rglob("*outside*"))


def test_a_run_that_succeeds_removes_what_was_given_up(tmp_path):
    output = tmp_path / "out"
    old = output / STAGING / "S2_X_0123456789"
    old.mkdir(parents=True)
    os.utime(old, (0, 0))
    decloud_scene(scene(tmp_path / NAME), output, IDENTITY)
    assert not old.exists()


def test_a_run_of_several_scenes_looks_for_what_was_given_up_once(tmp_path, monkeypatch):
    """Counted, not timed: in a bucket each look costs a request for each staged folder."""
    output, scandir, looks = tmp_path / "out", os.scandir, []

    def noted(path="."):
        if str(path) == str(output / STAGING):
            looks.append(path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", noted)
    scenes = [scene(tmp_path / NAME), replace(scene(tmp_path / f"{NAME}x"), id="S2_OTHER")]
    report = run_scenes(scenes, output, IDENTITY)
    assert [outcome.state for outcome in report.outcomes] == ["done", "done"]
    assert len(looks) == 1


def test_publishing_takes_as_long_with_many_products_as_with_few(tmp_path, monkeypatch):
    """Counted, not timed: the items that one publication reads."""
    for number in range(60):
        publish(stage(tmp_path, str(number)), tmp_path, make_item(f"S2_{number:04}"))
    read = []
    real = Path.read_text

    def noted(self, *args, **kwargs):
        read.append(self.name)
        return real(self, *args, **kwargs)

    monkeypatch.setattr(Path, "read_text", noted)
    publish(stage(tmp_path), tmp_path, make_item("S2_9999"))
    assert {name for name in read if name.startswith("S2_")} == {"S2_9999.json"}
    assert len(published_items(tmp_path)) == 61
