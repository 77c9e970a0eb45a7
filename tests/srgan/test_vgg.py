"""VGG-16 against a second implementation, and its weights: where they come from, and what is refused."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional

from srgan import vgg
from srgan.vgg import ENVIRONMENT, SHAPES, NoVggWeights, Vgg16, load_vgg
from tests.srgan.real import real_pair, stub_weights, vgg_file

torch.set_num_threads(1)

COLUMN_D = (
    "conv3-64",
    "conv3-64",
    "maxpool",
    "conv3-128",
    "conv3-128",
    "maxpool",
    "conv3-256",
    "conv3-256",
    "conv3-256",
)
"""Table 1 of the paper, through the layer after which relu3_3 stands."""


@pytest.fixture(scope="module")
def real(shared_data) -> dict[str, torch.Tensor]:
    """The real tensors, float32."""
    return {name: value.float() for name, value in load_file(vgg_file(shared_data)).items()}


@pytest.fixture(autouse=True)
def no_cache(tmp_path, monkeypatch) -> Path:
    """An empty cache of torch hub, and no variable."""
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    return tmp_path / "hub" / "checkpoints" / "vgg16-397923af.pth"


def published(folder: Path, tensors: dict[str, torch.Tensor], monkeypatch, *, legacy: bool = True) -> Path:
    """A file as torchvision's, with what stands in it beside the features, and its checksum in the place of the real one."""
    file = folder / "published.pth"
    full = {**tensors, "features.17.weight": torch.zeros(2), "classifier.6.bias": torch.zeros(3)}
    torch.save(full, file, _use_new_zipfile_serialization=not legacy)
    monkeypatch.setattr(vgg, "SHA256", hashlib.sha256(file.read_bytes()).hexdigest())
    return file


def test_features_are_those_of_the_papers_table(shared_data, real):
    image = (real_pair(shared_data)[1][:, [3, 2, 1]] / 0.3).clamp(0, 1)
    model = load_vgg(vgg_file(shared_data))
    ours = model(image.float())

    names = iter([0, 2, 5, 7, 10, 12, 14])
    features = (image - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor([0.229, 0.224, 0.225]).view(
        3, 1, 1
    )
    taken = []
    for number, layer in enumerate(COLUMN_D):
        if layer == "maxpool":
            rows, cols = (edge // 2 for edge in features.shape[-2:])
            features = (
                features[..., : 2 * rows, : 2 * cols].unflatten(-1, (cols, 2)).unflatten(-3, (rows, 2)).amax((-1, -3))
            )
        else:
            name = f"features.{next(names)}"
            weight = real[f"{name}.weight"].double()
            assert weight.shape[0] == int(layer.removeprefix("conv3-"))
            features = functional.conv2d(features, weight, real[f"{name}.bias"].double(), padding=1).clamp_min(0)
        if number in (1, 4, 8):
            taken.append(features)
    assert [tuple(part.shape) for part in ours] == [(1, 64, 64, 64), (1, 128, 32, 32), (1, 256, 16, 16)]
    for mine, theirs in zip(ours, taken, strict=True):
        assert mine.dtype == torch.float32
        assert theirs.max() > 1
        torch.testing.assert_close(mine.double(), theirs, atol=1e-4, rtol=1e-5)


def test_it_is_frozen_and_belongs_to_nobodys_checkpoint():
    model = Vgg16(stub_weights())
    assert list(model.parameters()) == []
    assert model.state_dict() == {}
    assert not model.train().training
    image = torch.rand(1, 3, 8, 8, dtype=torch.float64, requires_grad=True)
    features = model(image)
    assert not any(buffer.requires_grad for buffer in model.buffers())
    features[-1].sum().backward()
    assert (image.grad != 0).any()


def test_it_stays_in_float32_under_autocast():
    model = Vgg16({name: value.float() for name, value in stub_weights().items()})
    image = torch.rand(1, 3, 16, 16)
    plain = model(image)
    with torch.autocast("cpu", torch.bfloat16):
        cast = model(image)
        from_half = model(image.bfloat16())
    assert all(torch.equal(*parts) for parts in zip(plain, cast, strict=True))
    assert all(part.dtype == torch.float32 for part in from_half)


@pytest.mark.parametrize("legacy", [True, False])
def test_torchvisions_file_gives_the_same_as_safetensors(tmp_path, monkeypatch, real, legacy):
    file = published(tmp_path, real, monkeypatch, legacy=legacy)
    image = torch.rand(1, 3, 16, 16)
    save_file(real, tmp_path / "float32.safetensors")
    for mine, theirs in zip(load_vgg(file)(image), load_vgg(str(tmp_path / "float32.safetensors"))(image), strict=True):
        assert torch.equal(mine, theirs)


def test_the_variable_leads_before_the_cache(tmp_path, monkeypatch, shared_data, no_cache):
    no_cache.parent.mkdir(parents=True)
    no_cache.write_bytes(b"broken")
    monkeypatch.setenv(ENVIRONMENT, str(vgg_file(shared_data)))
    assert isinstance(load_vgg(None), Vgg16)
    monkeypatch.setenv(ENVIRONMENT, "")
    with pytest.raises(NoVggWeights, match="truncated or another file"):
        load_vgg()
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "gone.safetensors"))
    with pytest.raises(NoVggWeights, match=r"gone\.safetensors: cannot be read"):
        load_vgg()


def refused(file: Path, reason: str) -> None:
    with pytest.raises(NoVggWeights, match=reason) as caught:
        load_vgg(file)
    text = str(caught.value)
    assert "\n" not in text
    assert str(file) in text
    assert "--vgg-weights" in text
    assert "perceptual: 0, style: 0" in text


def test_what_is_no_vgg_is_refused_in_one_line(tmp_path, monkeypatch, shared_data, real):
    refused(tmp_path / "absent.safetensors", "cannot be read")
    refused(tmp_path / "absent.pth", "cannot be read")
    refused(tmp_path, "cannot be read")

    whole = vgg_file(shared_data).read_bytes()
    for length in (0, 5, 1000, len(whole) - 100):
        (tmp_path / "cut.safetensors").write_bytes(whole[:length])
        refused(tmp_path / "cut.safetensors", "damaged")
    (tmp_path / "text.safetensors").write_text("no tensors at all, " * 40)
    refused(tmp_path / "text.safetensors", "damaged")

    def altered(**changes: torch.Tensor | None) -> Path:
        tensors = {name: value for name, value in {**real, **changes}.items() if value is not None}
        save_file(tensors, tmp_path / "altered.safetensors")
        return tmp_path / "altered.safetensors"

    refused(altered(**{"features.14.bias": None}), r"features\.14\.bias is missing")
    refused(
        altered(**{"features.5.weight": torch.zeros(128, 64, 1, 1)}),
        r"shape \(128, 64, 1, 1\), VGG-16 has \(128, 64, 3, 3\)",
    )
    refused(altered(**{"features.0.bias": torch.full((64,), torch.nan)}), "no finite real numbers")
    refused(altered(**{"features.0.bias": torch.zeros(64, dtype=torch.int64)}), "no finite real numbers")

    file = published(tmp_path, real, monkeypatch)
    file.write_bytes(file.read_bytes()[:-1])
    refused(file, "is not that of torchvision's")


@pytest.mark.parametrize("blob", [b"", b"no pickle", b"PK\x03\x04 no archive"])
def test_a_damaged_pth_under_the_right_checksum_is_one_line_too(tmp_path, monkeypatch, blob):
    file = tmp_path / "broken.pth"
    file.write_bytes(blob)
    monkeypatch.setattr(vgg, "SHA256", hashlib.sha256(blob).hexdigest())
    refused(file, "damaged")


def test_a_pth_that_would_run_code_is_not_run(tmp_path, monkeypatch):
    class Trap:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "ran",))

    file = tmp_path / "trap.pth"
    torch.save({"features.0.weight": Trap()}, file)
    monkeypatch.setattr(vgg, "SHA256", hashlib.sha256(file.read_bytes()).hexdigest())
    refused(file, "damaged")
    assert not (tmp_path / "ran").exists()


@pytest.fixture
def server(monkeypatch) -> Iterator[dict[str, bytes]]:
    """A host that gives what it is told to; `length` may promise more than comes."""
    told: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if "body" not in told:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(told["body"]) + int(told.get("missing", b"0"))))
            self.end_headers()
            self.wfile.write(told["body"])

        def log_message(self, *_: object) -> None:
            pass

    host = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=host.serve_forever)
    thread.start()
    monkeypatch.setattr(vgg, "URL", f"http://127.0.0.1:{host.server_port}/models/vgg16-397923af.pth")
    yield told
    host.shutdown()
    thread.join()
    host.server_close()


def test_it_is_fetched_once_and_kept(tmp_path, monkeypatch, real, server, no_cache):
    server["body"] = published(tmp_path, real, monkeypatch).read_bytes()
    image = torch.rand(1, 3, 16, 16)
    first = load_vgg()(image)
    assert [entry.name for entry in no_cache.parent.iterdir()] == [no_cache.name]
    server.clear()  # from now on: 404
    assert all(torch.equal(*parts) for parts in zip(first, load_vgg()(image), strict=True))


@pytest.mark.parametrize("missing", [b"0", b"1000"])
def test_another_file_or_half_of_it_is_not_kept(tmp_path, monkeypatch, real, server, no_cache, missing):
    body = published(tmp_path, real, monkeypatch).read_bytes()
    server.update(body=body[:-1000], missing=missing)
    with pytest.raises(NoVggWeights, match="--vgg-weights") as caught:
        load_vgg()
    assert "\n" not in str(caught.value)
    assert list(no_cache.parent.iterdir()) == []


def test_without_a_network_the_option_is_named(server, no_cache, monkeypatch):
    for reason in ("404", "refused"):
        if reason == "refused":
            monkeypatch.setattr(vgg, "URL", "http://127.0.0.1:9/vgg16-397923af.pth")
        with pytest.raises(NoVggWeights, match=f"(?i){reason}") as caught:
            load_vgg()
        assert "--vgg-weights" in str(caught.value)
        assert "perceptual: 0, style: 0" in str(caught.value)
        assert "\n" not in str(caught.value)
    assert server == {}
    assert list(no_cache.parent.iterdir()) == []


def test_the_table_is_torchvisions(real):
    assert {name: tuple(value.shape) for name, value in real.items()} == {
        f"features.{index}.{part}": shape
        for index, (out, channels) in SHAPES.items()
        for part, shape in (("weight", (out, channels, 3, 3)), ("bias", (out,)))
    }
