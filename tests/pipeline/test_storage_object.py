"""Products in a bucket: complete or absent, whatever happens in between; boto3 looks at them by itself."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline import bucket as buckets
from pipeline.address import address, output_path, output_url
from pipeline.bucket import Bucket, tag_of
from pipeline.errors import InvalidSettings, ReadFailed, WriteFailed
from pipeline.publish import is_published, products_of, publish, published_items, read_item, rebuild_catalog
from pipeline.storage import storage_of
from pipeline.storage_local import LocalStorage
from tests.disks import small_disk

from .conftest import SECRET
from .test_publish import make_item, stage


@pytest.fixture
def output(bucket):
    return output_path(f"{bucket.url}/out")


def links(bucket) -> list[str]:
    document = json.loads(bucket.get("out/catalog.json"))
    return [link["href"] for link in document["links"] if link["rel"] == "item"]


def test_an_output_is_a_path_that_stands_for_its_url(tmp_path, monkeypatch):
    monkeypatch.setenv("DECLOUD_SCRATCH", str(tmp_path))
    output = output_path("s3://bucket-1/a/b c/")
    assert output.parent == tmp_path
    assert output_url(output) == "s3://bucket-1/a/b c"
    assert output_path(output) == output_path(Path("s3://bucket-1/a/b c")) == output
    assert address(output / "S2_A" / "x.json") == "s3://bucket-1/a/b c/S2_A/x.json"
    assert output_url(output_path("some/folder")) is None
    assert isinstance(storage_of(Path("out")), LocalStorage)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("https://host/out", "to a folder or to s3://bucket/prefix"),
        ("gs://bucket/out", "to a folder or to s3://bucket/prefix"),
        ("s3://key:secret@bucket/out", "give credentials by AWS_ACCESS_KEY_ID"),
        ("s3://bucket/out?X-Amz-Signature=secret", "give credentials by AWS_ACCESS_KEY_ID"),
        ("s3:///out", "no bucket is named; write s3://bucket/prefix"),
        ("s3://", "no bucket is named; write s3://bucket/prefix"),
        ("s3://Bucket_/out", "cannot be the name of a bucket"),
        ("s3://bucket/a/../b", "empty parts"),
        ("s3://bucket/a//b", "empty parts"),
        ("s3://bucket/" + "x" * 300, "too long"),
        ("s3://[bucket/x", "name a folder, or s3://bucket/prefix"),
    ],
)
def test_a_url_that_names_no_place_for_products_is_one_line(url, reason):
    with pytest.raises(InvalidSettings, match=reason) as caught:
        output_path(url)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_product_in_a_bucket_is_the_one_in_a_folder(bucket, output, tmp_path):
    local = tmp_path / "local"
    publish(stage(local), local, make_item("S2_A"))
    staged = stage(output)
    target = publish(staged, output, make_item("S2_A"))
    assert address(target) == f"{bucket.url}/out/S2_A"
    assert not staged.exists()
    files = {
        path.relative_to(local).as_posix(): path.read_bytes() for path in (local / "S2_A").rglob("*") if path.is_file()
    }
    files["catalog.json"] = (local / "catalog.json").read_bytes()
    there = {key.removeprefix("out/"): bucket.get(key) for key in bucket.keys("out/")}
    ledger = json.loads(there.pop("S2_A/.objects.json"))
    assert there == files
    for line in files["S2_A/manifest.sha256"].decode().splitlines():
        digest, name = line.split("  ")
        assert ledger[name][2] == digest == hashlib.sha256(there[f"S2_A/{name}"]).hexdigest()
    assert is_published(output, "S2_A") is True
    assert is_published(output, "S2_B") is None
    assert read_item(output, "S2_A") == json.loads(files["S2_A/S2_A.json"])
    assert published_items(output) == ["S2_A"]


def test_damage_in_a_bucket_is_found_and_mended(bucket, output):
    for damage in (
        lambda: bucket.put("out/S2_A/B02.tif", b"pixelz"),
        lambda: bucket.client.delete_object(Bucket=bucket.name, Key="out/S2_A/a.zarr/r10m/chunk"),
        lambda: bucket.put("out/S2_A/extra.tif", b"x"),
        lambda: bucket.put("out/S2_A/manifest.sha256", b"what\n"),
        lambda: bucket.client.delete_object(Bucket=bucket.name, Key="out/S2_A/manifest.sha256"),
    ):
        publish(stage(output), output, make_item("S2_A"))
        assert is_published(output, "S2_A") is True
        damage()
        assert is_published(output, "S2_A") is False
    publish(stage(output), output, make_item("S2_A"))
    assert "out/S2_A/extra.tif" not in bucket.keys("out/")
    # Without its ledger, and with one that is wrong, the objects themselves are read.
    for ledger in (b"{", b"[]", b'{"B02.tif": [6, "x", "y"]}'):
        bucket.put("out/S2_A/.objects.json", ledger)
        assert is_published(output, "S2_A") is True
    bucket.put("out/S2_A/B02.tif", b"pixelz")
    assert is_published(output, "S2_A") is False


def test_a_second_publication_keeps_the_first_unless_asked(bucket, output):
    publish(stage(output, "one"), output, make_item("S2_A"))
    publish(stage(output, "two"), output, make_item("S2_A"))
    assert bucket.get("out/S2_A/B02.tif") == b"one"
    publish(stage(output, "two"), output, make_item("S2_A"), overwrite=True)
    assert bucket.get("out/S2_A/B02.tif") == b"two"
    assert links(bucket) == ["./S2_A/S2_A.json"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_run_that_ends_at_any_request_leaves_no_half_product(bucket, monkeypatch, overwrite):
    """Let the n-th change of the bucket be the last of a process, for every n."""
    real_upload, real_write, real_remove = Bucket.upload, Bucket.write, Bucket.remove
    for last in range(30):
        root = output_path(f"{bucket.url}/out/{last}")
        if overwrite:
            publish(stage(root, "old"), root, make_item("S2_A"))
        calls = iter(range(1000))

        def until(real, calls=calls, last=last):
            def call(*args, **kwargs):
                if next(calls) >= last:
                    raise KeyboardInterrupt
                return real(*args, **kwargs)

            return call

        with monkeypatch.context() as patch:
            patch.setattr(Bucket, "upload", until(real_upload))
            patch.setattr(Bucket, "write", until(real_write))
            patch.setattr(Bucket, "remove", until(real_remove))
            try:
                publish(stage(root, "new"), root, make_item("S2_A"), overwrite=overwrite)
                ended = False
            except KeyboardInterrupt:
                ended = True
        prefix = f"out/{last}"
        items = [key for key in bucket.keys(f"{prefix}/") if key.endswith("S2_A.json")]
        if items:
            whole = bucket.get(f"{prefix}/S2_A/B02.tif")
            assert whole in ((b"new", b"old") if overwrite else (b"new",))
            assert is_published(root, "S2_A") is True
        if f"{prefix}/catalog.json" in bucket.keys(prefix):
            linked = [
                link for link in json.loads(bucket.get(f"{prefix}/catalog.json"))["links"] if link["rel"] == "item"
            ]
            assert bool(items) >= bool(linked)
        publish(stage(root, "new"), root, make_item("S2_A"), overwrite=True)
        assert is_published(root, "S2_A") is True
        if not ended:
            break
    else:
        pytest.fail("never got through")
    assert last > 4


def test_what_has_arrived_is_not_sent_again(output, monkeypatch):
    sent = []
    real = Bucket.upload

    def dying(self, name, path, digest):
        if len(sent) == 2:
            raise KeyboardInterrupt
        sent.append(name)
        return real(self, name, path, digest)

    with monkeypatch.context() as patch:
        patch.setattr(Bucket, "upload", dying)
        with pytest.raises(KeyboardInterrupt):
            publish(stage(output), output, make_item("S2_A"), threads=1)
    assert is_published(output, "S2_A") is None

    def noted(self, name, path, digest):
        sent.append(name)
        return real(self, name, path, digest)

    monkeypatch.setattr(Bucket, "upload", noted)
    publish(stage(output), output, make_item("S2_A"), threads=1)
    assert len(sent) == len(set(sent)) == 3
    assert is_published(output, "S2_A") is True


PUBLISHER = """
import sys
sys.path[:0] = sys.argv[2:]
from pipeline.address import output_path
from tests.pipeline.test_publish import make_item, publish, stage
output = output_path(sys.argv[1])
print("ready", flush=True)
for round in range(1000):
    publish(stage(output, f"round {round}" * 1000), output, make_item(f"S2_{round % 3}"), overwrite=True)
"""


def test_kill_9_leaves_products_complete_or_absent(bucket, output):
    root = str(Path(__file__).resolve().parents[2])
    command = [sys.executable, "-c", PUBLISHER, f"{bucket.url}/out", root]
    for wait in (0.3, 1.1):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) as process:
            assert process.stdout.readline() == "ready\n"
            time.sleep(wait)
            process.send_signal(signal.SIGKILL)
        for name in published_items(output):
            assert is_published(output, name) is True
            for line in bucket.get(f"out/{name}/manifest.sha256").decode().splitlines():
                digest, file = line.split("  ")
                assert hashlib.sha256(bucket.get(f"out/{name}/{file}")).hexdigest() == digest
    publish(stage(output), output, make_item("S2_0"), overwrite=True)
    assert "./S2_0/S2_0.json" in links(bucket)


def test_many_publish_at_once_and_all_are_linked(bucket, output):
    with ThreadPoolExecutor(5) as pool:
        list(pool.map(lambda n: publish(stage(output, str(n)), output, make_item(f"S2_{n}")), range(5)))
    assert links(bucket) == [f"./S2_{n}/S2_{n}.json" for n in range(5)]
    before = bucket.get("out/catalog.json")
    bucket.put("out/catalog.json", b"{")
    rebuild_catalog(output)
    assert bucket.get("out/catalog.json") == before


def test_products_of_a_scene_are_found_oldest_first(output):
    for key, created in (("b" * 10, "2024-01-01T00:00:00Z"), ("a" * 10, "2024-01-02T00:00:00Z")):
        item = make_item(f"S2_A_{key}")
        item["properties"] |= {"declouder:source": "S2_A", "created": created}
        publish(stage(output), output, item)
    publish(stage(output), output, make_item("S2_A_2"))
    assert products_of(output, "S2_A") == ["S2_A_" + "b" * 10, "S2_A_" + "a" * 10]
    assert products_of(output, "S2") == []


def test_a_large_file_goes_in_parts_and_is_compared(bucket, tmp_path, monkeypatch):
    monkeypatch.setattr(buckets, "PART", 5 << 20)
    content = os.urandom(11 << 20)
    path = tmp_path / "large"
    path.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    stored = Bucket(f"{bucket.url}/out").upload("large", path, digest)
    assert stored.tag == tag_of(path)
    assert stored.tag.endswith("-3")
    assert bucket.get("out/large") == content
    # A store whose tags are no MD5: the object is read back.
    monkeypatch.setattr(buckets, "tag_of", lambda _: "no MD5")
    Bucket(f"{bucket.url}/out").upload("large", path, digest)
    monkeypatch.setattr(Bucket, "digest", lambda *_: "0" * 64)
    with pytest.raises(WriteFailed, match="arrived with another content"):
        Bucket(f"{bucket.url}/out").upload("large", path, digest)


def test_wrong_bucket_credentials_and_server_are_one_line_each(bucket, output, monkeypatch):
    storage_of(output).check()
    absent = output_path("s3://there-is-no-such-bucket/out")
    for call in (storage_of(absent).check, lambda: publish(stage(absent), absent, make_item("S2_A"))):
        with pytest.raises(
            InvalidSettings, match="there is no bucket there-is-no-such-bucket: check its name"
        ) as caught:
            call()
        assert "\n" not in str(caught.value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(WriteFailed, match="no answer, perhaps only now") as caught_write:
        Bucket(f"{bucket.url}/out").write("x", b"")
    assert caught_write.value.transient
    assert SECRET not in str(caught_write.value)
    with pytest.raises(ReadFailed, match="no answer, perhaps only now"):
        storage_of(output).check()
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    with pytest.raises(InvalidSettings, match="no credentials"):
        storage_of(output).check()


def test_a_folder_of_work_that_cannot_be_made_is_one_line(bucket, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DECLOUD_SCRATCH", str(tmp_path / "file" / "x"))
    with pytest.raises(InvalidSettings, match="name one by DECLOUD_SCRATCH"):
        storage_of(output_path(f"{bucket.url}/out")).check()


def test_journals_that_cannot_be_kept_here_are_one_line(bucket, output):
    Bucket(f"{bucket.url}/out").write("runs/a.jsonl", b"x" * 4096)
    output.mkdir(parents=True)
    (output / "runs").write_text("")
    with pytest.raises(ReadFailed, match=r"runs/a\.jsonl: cannot be written: ") as caught:
        storage_of(output).bring()
    assert "\n" not in str(caught.value)
    (output / "runs").unlink()
    assert storage_of(output).bring()
    assert [path.name for path in (output / "runs").iterdir()] == ["a.jsonl"]


def test_journals_on_a_disk_that_is_really_full_or_read_only(bucket, tmp_path, monkeypatch):
    with small_disk(tmp_path / "disk", "64k") as disk:
        monkeypatch.setenv("DECLOUD_SCRATCH", str(disk / "work"))
        elsewhere = output_path(f"{bucket.url}/out")
        Bucket(f"{bucket.url}/out").write("runs/a.jsonl", b"x" * 4096)
        assert storage_of(elsewhere).bring()
        Bucket(f"{bucket.url}/out").write("runs/large.jsonl", b"x" * 100_000)
        with pytest.raises(ReadFailed, match="no space left on the disk: free some, or choose another DECLOUD_SCRATCH"):
            storage_of(elsewhere).bring()
        assert [path.name for path in (elsewhere / "runs").iterdir()] == ["a.jsonl"], "nothing half written"
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        Bucket(f"{bucket.url}/out").write("runs/b.jsonl", b"x")
        with pytest.raises((ReadFailed, InvalidSettings), match=str(disk)):
            storage_of(elsewhere).bring()
