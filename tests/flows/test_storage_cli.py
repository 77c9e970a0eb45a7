"""`--output s3://bucket/prefix` on the command line, against a real S3 server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.flows.conftest import Decloud, MadeScene
from tests.pipeline.conftest import SECRET, TestBucket, bucket, s3_endpoint, s3_environment  # noqa: F401 - fixtures


def test_run_plan_and_status_of_a_bucket(
    bucket: TestBucket,  # noqa: F811
    scene: MadeScene,
    tmp_path: Path,
    decloud: Decloud,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    output = f"{bucket.url}/out"
    done = decloud(*scene.arguments(output, "--json"))
    assert done.status == 0, done.err
    (made,) = done.document["scenes"]
    assert done.document["output"] == output
    assert made["product"].startswith(f"{output}/T33UWP")
    assert made["figures"]["thumbnail"].startswith(f"{output}/T33UWP")
    key = made["product"].removeprefix(f"{bucket.url}/")
    assert json.loads(bucket.get(key))["id"] == Path(key).stem
    # A local run of the same makes the same files.
    local = decloud(*scene.arguments(tmp_path / "out", "--json")).document["scenes"][0]["product"]
    assert Path(local).name == Path(key).name
    assert (Path(local).parent / "manifest.sha256").read_bytes() == bucket.get(
        str(Path(key).parent / "manifest.sha256")
    )

    again = decloud(*scene.arguments(output, "--json"))
    assert [entry["state"] for entry in again.document["scenes"]] == ["unchanged"]
    quick = ("--mask", scene.mask, "--references", "0", "--overlap", "16", "--checkpoint", "identity", "--tile", "64")
    plan = decloud("plan", *scene.files, "--output", output, *quick, "--json")
    assert [entry["state"] for entry in plan.document["scenes"]] == ["done"]

    # Another machine: nothing but the bucket.
    monkeypatch.setenv("DECLOUD_SCRATCH", str(tmp_path / "elsewhere"))
    status = decloud("status", output, "--json")
    assert status.status == 0
    assert [entry["state"] for entry in status.document["scenes"]] == ["unchanged"]
    records = [key for key in bucket.keys("out/runs/") if key.endswith(".json")]
    assert json.loads(bucket.get(records[0]))["request"]["output"] == output
    assert SECRET not in done.out + done.err + status.out + "".join(bucket.get(key).decode() for key in records)


def test_a_bucket_that_cannot_be_written_to_is_one_line(
    bucket: TestBucket,  # noqa: F811
    scene: MadeScene,
    tmp_path: Path,
    decloud: Decloud,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ended = decloud(*scene.arguments("s3://there-is-no-such-bucket/out"))
    assert ended.status == 2
    assert "there is no bucket there-is-no-such-bucket: check its name and AWS_ENDPOINT_URL" in ended.error
    ended = decloud(*scene.arguments(f"s3://{SECRET}:{SECRET}@bucket/out"))
    assert ended.status == 2
    assert "give credentials by AWS_ACCESS_KEY_ID" in ended.error
    assert SECRET not in ended.error
    assert decloud("status", f"{bucket.url}/nothing").status == 2
    ended = decloud(
        "evaluate", tmp_path / "pairs.parquet", "--checkpoint", "default", "--split", "all", "--output", bucket.url
    )
    assert ended.status == 2
    assert "this goes to a folder of this machine" in ended.error
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    ended = decloud(*scene.arguments(f"{bucket.url}/out"))
    assert ended.status == 2
    assert "no credentials" in ended.error
    assert not bucket.keys("out/")
