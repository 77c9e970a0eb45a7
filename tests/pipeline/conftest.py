"""An S3 server on loopback, and buckets in it."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

KEY, SECRET = "AKIDTESTING", "s3cr3t-0f-the-t3st"


@dataclass(frozen=True)
class TestBucket:
    """A bucket of this test alone."""

    __test__ = False

    name: str
    client: Any
    """boto3's, which knows nothing of ours."""

    @property
    def url(self) -> str:
        return f"s3://{self.name}"

    def keys(self, prefix: str = "") -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix)
        return sorted(entry["Key"] for page in pages for entry in page.get("Contents", []))

    def get(self, key: str) -> bytes:
        with self.client.get_object(Bucket=self.name, Key=key)["Body"] as body:
            return body.read()

    def put(self, key: str, content: bytes) -> None:
        self.client.put_object(Bucket=self.name, Key=key, Body=content)

    def put_tree(self, folder: Path, prefix: str) -> None:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.put(f"{prefix}/{path.relative_to(folder).as_posix()}", path.read_bytes())


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """URL of an S3 server."""
    pytest.importorskip("s3fs", reason="s3fs is not installed: pip install 'declouder[s3]'")
    pytest.importorskip("moto", reason="moto is not installed: pip install 'declouder[dev]'")
    program = Path(__file__).with_name("s3_server.py")
    with subprocess.Popen(
        [sys.executable, program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


@pytest.fixture
def s3_environment(s3_endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The environment as a user of that server would set it; folders of work below the test's own."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    values = {
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": s3_endpoint,
        "AWS_EC2_METADATA_DISABLED": "true",
        "DECLOUD_SCRATCH": str(tmp_path / "scratch"),
        "GDAL_HTTP_RETRY_DELAY": "0.05",
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    # As many tries as a user's run has, in less time.
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0.02)
    return s3_endpoint


@pytest.fixture
def bucket(s3_environment: str) -> Iterator[TestBucket]:
    """An empty bucket."""
    import boto3

    client = boto3.client("s3", endpoint_url=s3_environment)
    name = f"test-{uuid.uuid4().hex[:12]}"
    client.create_bucket(Bucket=name)
    yield TestBucket(name, client)
    client.close()
