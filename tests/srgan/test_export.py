"""Exports: what is written computes what the checkpoint does, says what it is, and every kind of bad file or request is named."""

from __future__ import annotations

import hashlib
import io
import json
import resource
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from srgan import export as export_module
from srgan.archive import ExportRecord, read_record
from srgan.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from srgan.errors import ExportFailed, InvalidCheckpoint, InvalidExport, InvalidSpec
from srgan.export import ExportReport, export_checkpoint
from srgan.exported import load_exported
from srgan.parity import BOUND
from srgan.spec import BANDS, ModelSpec
from tests.srgan.made import inputs, lively

torch.set_num_threads(1)
SPEC = ModelSpec(name="smallest", widths=(8, 8, 12, 12), depths=(1, 1, 1, 1), margin=40)
PLAIN = SPEC.model_copy(update={"guidance": "none"})
"""Where any network will do: fewer layers to trace."""
SUFFIX = {"torchscript": ".ts", "pt2": ".pt2", "onnx": ".onnx"}


def saved(folder: Path, spec: ModelSpec = SPEC, name: str = "model") -> Checkpoint:
    return load_checkpoint(save_checkpoint(folder / f"{name}.safetensors", lively(spec), {}, dtype=torch.float32))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return saved(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def made(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], ExportReport]:
    """One export of each format, made when it is first asked for: two references, tiles of 64."""
    folder, reports = tmp_path_factory.mktemp("exports"), dict[str, ExportReport]()

    def get(kind: str) -> ExportReport:
        if kind not in reports:
            if kind == "onnx":
                for name in ("onnx", "onnxscript", "onnxruntime"):
                    pytest.importorskip(name, reason="the extra `onnx` is not installed")
            path = folder / f"model{SUFFIX[kind]}"
            reports[kind] = export_checkpoint(checkpoint, path, kind, tile=64, references=2)
        return reports[kind]

    return get


def run_plainly(report: ExportReport, given: list[Tensor]) -> list[Tensor]:
    """What the file computes when its own runtime reads it, without our loader."""
    path = str(report.path)
    if report.format == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        names = [info.name for info in session.get_inputs()]
        return [
            torch.from_numpy(part)
            for part in session.run(None, dict(zip(names, map(Tensor.numpy, given), strict=True)))
        ]
    if report.format == "pt2":
        return list(torch.export.load(path).module()(*given))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return list(torch.jit.load(path)(*given))


@pytest.mark.parametrize("kind", SUFFIX)
def test_the_file_computes_what_the_checkpoint_does(kind, made, checkpoint):
    report = made(kind)
    assert report.path.name == f"model{SUFFIX[kind]}"
    assert 0 <= report.max_difference <= BOUND
    assert {"clear", "cloudy", "cloudy, no reference", "overcast", "10 m bands only", "no data"} <= set(
        report.differences
    )
    # Inputs that the export never saw, with another season's bands, dates that do not count, and a hole in the data.
    given = inputs(dates=2, seed=77)
    given["present"][0, [0, 9, 10]] = 0
    given["reference_valid"][:, 1] = 0
    given["valid"][..., :20] = 0
    given["mask"] *= 0.8
    assert list(given) == [info.name for info in report.signature]
    assert [tuple(part.shape) for part in given.values()] == [info.shape for info in report.signature]
    expected = checkpoint.generator(**given)
    found = run_plainly(report, list(given.values()))
    assert [tuple(part.shape) for part in found] == [info.shape for info in report.record.outputs]
    for ours, theirs in zip(expected, found, strict=True):
        assert float((ours - theirs).abs().max()) <= BOUND
    # So that the comparison says something: the network itself, not only the first guess, is in there.
    plain = lively(SPEC, seed=5)
    other = plain(**given)
    assert float((other.restored - found[0]).abs().max()) > 100 * BOUND
    assert float((other.uncertainty - found[4]).abs().max()) > 20 * BOUND


@pytest.mark.parametrize("kind", SUFFIX)
def test_one_file_says_all_that_is_needed(kind, made, checkpoint):
    report = made(kind)
    if kind == "onnx":
        import onnx

        model = onnx.load(report.path)
        assert [opset.version for opset in model.opset_import if opset.domain in ("", "ai.onnx")] == [18]
        text = {entry.key: entry.value for entry in model.metadata_props}["declouder"]
    else:
        with zipfile.ZipFile(report.path) as archive:
            (name,) = [name for name in archive.namelist() if name.endswith("declouder.json")]
            text = archive.read(name).decode()
        assert read_record(report.path) == report.record
    told = json.loads(text)
    assert ModelSpec.model_validate(told["spec"]) == SPEC
    assert (told["version"], told["format"], told["name"]) == (2, kind, "model")
    assert (told["margin"], told["grid"], told["bands"]) == (40, 8, list(BANDS))
    assert (told["tile"], told["references"], told["batch"]) == (64, 2, 1)
    assert told["weights"] == checkpoint.digest
    assert [entry["name"] for entry in told["inputs"]] == list(inputs())
    assert told["inputs"][4]["shape"] == [1, 2, 13, 64, 64]
    assert ExportRecord.model_validate_json(text) == report.record
    document = report.document()
    json.dumps(document, allow_nan=False)
    assert document["opset"] == (18 if kind == "onnx" else None)


@pytest.mark.parametrize("kind", ["torchscript", "pt2"])
def test_what_is_loaded_is_bit_identical_and_checks_its_inputs(kind, made, checkpoint):
    loaded = load_exported(made(kind).path)
    assert loaded.digest == hashlib.sha256(made(kind).path.read_bytes()).hexdigest()
    assert (loaded.name, loaded.spec, loaded.record.tile) == ("model", SPEC, 64)
    given = inputs(dates=2, seed=3)
    for _ in range(3):
        found = loaded(*given.values())
        for ours, theirs in zip(checkpoint.generator(**given), found, strict=True):
            assert torch.equal(ours, theirs)
    with pytest.raises(
        InvalidSpec, match=r"references has shape \(1, 1, 13, 64, 64\): model was exported for \(1, 2, 13"
    ):
        loaded(*inputs(dates=1).values())


@pytest.mark.parametrize("kind", ["torchscript", "pt2"])
def test_nothing_in_the_graph_is_tied_to_the_device_it_was_made_on(kind, made):
    path = made(kind).path
    if kind == "pt2":
        # On torch's device without data, where a tensor left behind on the CPU would raise.
        loaded = load_exported(path, "meta")
        given = [part.to("meta") for part in inputs(dates=2).values()]
        assert [part.device.type for part in loaded(*given)] == ["meta"] * 5
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            graph = torch.jit.load(str(path)).inlined_graph
        assert "Device = prim::Constant" not in str(graph)


@pytest.mark.parametrize(("guidance", "references", "batch"), [("none", 0, 1), ("concat", 4, 2)])
def test_every_network_and_shape(tmp_path, guidance, references, batch):
    own = saved(tmp_path, SPEC.model_copy(update={"guidance": guidance}))
    report = export_checkpoint(
        own, tmp_path / "m.torchscript", "torchscript", tile=32, references=references, batch=batch
    )
    assert report.max_difference == 0
    given = inputs(32, 32, references, batch)
    found = load_exported(report.path)(*given.values())
    assert torch.equal(found.restored, own.generator(**given).restored)
    assert found.restored.shape == (batch, 13, 32, 32)


def test_a_file_that_is_not_right_is_not_written(tmp_path, monkeypatch):
    path = tmp_path / "m.ts"
    path.write_bytes(b"the earlier one")
    broken = saved(tmp_path, PLAIN)
    broken.generator.stem.bias[3] = torch.nan
    with pytest.raises(
        ExportFailed, match=r"m\.ts: not written.*restored differs from the checkpoint's by nan"
    ) as caught:
        export_checkpoint(broken, path, "torchscript", tile=32, references=0)
    assert "\n" not in str(caught.value)
    # A writer whose graph is a little off: 1e-4 of reflectance, in one output.
    writer = export_module._torchscript

    class Off(nn.Module):
        def __init__(self, network):
            super().__init__()
            self.network = network

        def forward(self, *given):
            restored, *others = self.network(*given)
            return (restored, others[0] + 1e-4, *others[1:])

    monkeypatch.setitem(export_module._WRITERS, "torchscript", lambda network, *rest: writer(Off(network), *rest))
    with pytest.raises(
        ExportFailed, match=r"opacity differs from the checkpoint's by 0.0001 on `traced` inputs, more than 5e-05"
    ):
        export_checkpoint(saved(tmp_path, PLAIN), path, "torchscript", tile=32, references=0)
    assert path.read_bytes() == b"the earlier one"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["m.ts", "model.json", "model.safetensors"]


def test_a_full_disk_leaves_what_was_there(tmp_path, tmp_path_factory):
    checkpoint = saved(tmp_path_factory.mktemp("small"), PLAIN)
    path = tmp_path / "m.ts"
    path.write_bytes(b"the earlier one")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(ExportFailed, match=r"m\.ts: cannot be written \(File too large\): nothing was left there"):
            export_checkpoint(checkpoint, path, "torchscript", tile=32, references=0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [file.name for file in tmp_path.iterdir()] == ["m.ts"]
    assert path.read_bytes() == b"the earlier one"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"path": "m.pt"}, r"--output .*m\.pt: a torchscript file is called \*\.ts or \*\.torchscript"),
        ({"path": "m.pt2"}, r"a torchscript file is called"),
        ({"format": "onnx"}, r"a onnx file is called \*\.onnx"),
        ({"path": "gone/m.ts"}, r"there is no folder .*gone; make it first"),
        ({"path": "file/m.ts"}, r"there is no folder .*file; make it first"),
        ({"path": "folder.ts"}, r"is a folder; name a file"),
        ({"path": "/proc/m.ts"}, r"--output /proc/m\.ts: .*; name another place"),
        ({"path": "m" * 300 + ".ts"}, r"File name too long; name another place"),
        ({"tile": 100}, r"--tile 100: must be a multiple of 32"),
        ({"tile": 0}, r"--tile 0: must be a multiple of 32"),
        ({"references": 5}, r"--references 5: checkpoint model takes 0 to 4"),
        ({"references": -1}, r"--references -1"),
        ({"batch": 0}, r"--batch 0"),
    ],
)  # fmt: skip
def test_requests_that_cannot_be(tmp_path, checkpoint, changes, said):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.ts").mkdir()
    wanted = {"path": "m.ts", "format": "torchscript", "tile": 32, "references": 0} | changes
    with pytest.raises(InvalidExport, match=said) as caught:
        export_checkpoint(checkpoint, tmp_path / wanted.pop("path"), wanted.pop("format"), **wanted)
    assert "\n" not in str(caught.value)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file", "folder.ts"]


def test_missing_packages_and_an_old_torch_are_named(tmp_path, checkpoint, monkeypatch):
    found = export_module.importlib.util.find_spec
    monkeypatch.setattr(
        export_module.importlib.util, "find_spec", lambda name: None if name == "onnxscript" else found(name)
    )
    with pytest.raises(InvalidExport, match=r"onnxscript not installed: pip install 'declouder\[onnx\]'"):
        export_checkpoint(checkpoint, tmp_path / "m.onnx", "onnx")
    monkeypatch.setattr(torch, "__version__", "2.8.1+cpu")
    with pytest.raises(InvalidExport, match=r"torch 2\.8\.1\+cpu keeps weights as a pickle; use torch 2\.9 or newer"):
        export_checkpoint(checkpoint, tmp_path / "m.pt2", "pt2")
    assert list(tmp_path.iterdir()) == []


def test_an_export_is_no_checkpoint(made):
    with pytest.raises(InvalidCheckpoint, match=r"an exported file, no checkpoint: give the \.safetensors file"):
        load_checkpoint(made("torchscript").path)


def test_the_record_is_read_without_torch(made):
    code = (
        "import sys; from pathlib import Path; from srgan.archive import read_record; "
        f"print(read_record(Path({str(made('torchscript').path)!r})).spec.grid, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["8", "False"]


# Bad files: each is made from a good one.


def rewritten(source: Path, target: Path, change: Callable[[dict[str, bytes]], object]) -> Path:
    """A copy of an archive with other records."""
    with zipfile.ZipFile(source) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    change(records)
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in records.items():
            archive.writestr(name, content)
    return target


def told(records: dict[str, bytes]) -> dict:
    return json.loads(records["archive/extra/declouder.json"])


def retold(**changes: object) -> Callable[[dict[str, bytes]], object]:
    """A change of the record's entries."""
    return lambda records: records.update(
        {"archive/extra/declouder.json": json.dumps(told(records) | changes).encode()}
    )


@pytest.mark.parametrize("kind", ["torchscript", "pt2"])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda records: records.pop("archive/extra/declouder.json"), "it has no record declouder.json: not made by"),
        (lambda records: records.update({"archive/extra/declouder.json": b"{ no"}), "is not readable JSON"),
        (lambda records: records.update({"archive/extra/declouder.json": b"[1]"}), "is of version None"),
        (lambda records: records.update({"archive/extra/declouder.json": b" " * (2 << 20)}), "too large to be one"),
        (retold(version=1), "its record is of version 1, this program reads 2: export the checkpoint again"),
        (retold(spec={"name": "x"}), "bad record, spec.widths: Field required"),
        (retold(weights="abc"), "bad record, weights"),
        (retold(tile=0), "bad record, tile"),
        (retold(format="onnx"), "it holds onnx: call it bad.onnx"),
    ],
    ids=["none", "no JSON", "list", "huge", "version", "spec", "weights", "tile", "format"],
)
def test_records_of_every_wrong_kind(tmp_path, made, kind, change, said):
    path = rewritten(made(kind).path, tmp_path / f"bad{SUFFIX[kind]}", change)
    for read in (read_record, load_exported):
        with pytest.raises(InvalidExport, match=said) as caught:
            read(path)
        assert str(caught.value).startswith(f"export {path}: ")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["torchscript", "pt2"])
def test_files_that_are_damaged(tmp_path, made, kind):
    good = made(kind).path.read_bytes()
    path = tmp_path / f"bad{SUFFIX[kind]}"
    for content in (b"", b"abc", good[: len(good) // 2], good[:-30]):
        path.write_bytes(content)
        for read in (read_record, load_exported):
            with pytest.raises(
                InvalidExport, match=r"cannot be read \(no zip archive, or truncated\): export or fetch it again"
            ):
                read(path)
    # One bit of a weight: the archive's checksums tell.
    with zipfile.ZipFile(made(kind).path) as archive:
        info = max(
            archive.infolist(),
            key=lambda entry: entry.file_size if "weight" in entry.filename or "/data/" in entry.filename else 0,
        )
    flipped = bytearray(good)
    flipped[info.header_offset + 200 + info.file_size // 2] ^= 1
    path.write_bytes(flipped)
    with pytest.raises(InvalidExport, match=r"torch cannot read it \(Bad CRC-32"):
        load_exported(path)
    for read in (read_record, load_exported):
        with pytest.raises(InvalidExport, match="no such file; `decloud export` makes one"):
            read(tmp_path / f"gone{SUFFIX[kind]}")
    folder = tmp_path / f"folder{SUFFIX[kind]}"
    folder.mkdir()
    for read in (read_record, load_exported):
        with pytest.raises(InvalidExport, match="Is a directory"):
            read(folder)


def test_onnx_is_not_run_here(tmp_path):
    with pytest.raises(InvalidExport, match="ONNX is for other programs and is not run here: give the checkpoint"):
        read_record(tmp_path / "m.onnx")
    (tmp_path / "m.onnx").write_bytes(b"")
    with pytest.raises(InvalidExport, match="ONNX is for other programs"):
        load_exported(tmp_path / "m.onnx")


class Bomb:
    def __reduce__(self):
        return (Path.touch, (Path("exploded"),))


def pickled() -> bytes:
    target = io.BytesIO()
    torch.save(((Bomb(),), {}), target)
    return target.getvalue()


def with_pickled_weight(records: dict[str, bytes]) -> None:
    name = "archive/data/weights/model_weights_config.json"
    config = json.loads(records[name])
    next(iter(config["config"].values()))["use_pickle"] = True
    records[name] = json.dumps(config).encode()
    records["archive/data/weights/weight_0"] = pickled()


def with_operator(name: str) -> Callable[[dict[str, bytes]], object]:
    def change(records: dict[str, bytes]) -> None:
        model = json.loads(records["archive/models/model.json"])
        model["graph_module"]["graph"]["nodes"][0]["target"] = name
        records["archive/models/model.json"] = json.dumps(model).encode()

    return change


def with_entry(**entries: object) -> Callable[[dict[str, bytes]], object]:
    def change(records: dict[str, bytes]) -> None:
        model = json.loads(records["archive/models/model.json"]) | entries
        records["archive/models/model.json"] = json.dumps(model).encode()

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda records: records.update({"archive/data/sample_inputs/model.pt": pickled()}), "pickled example inputs"),
        (with_pickled_weight, "pickled weights"),
        (
            lambda records: records.update({"archive/data/weights/model.pt": pickled()}),
            "holds data/weights/model.pt, which is no",
        ),
        (lambda records: records.update({"archive/data/aotinductor/model/x.so": b"\x7fELF"}), "holds data/aotinductor"),
        (lambda records: records.update({"archive/data/weights/Weight_0": b"\0" * 8}), "two records of one name"),
        (
            with_operator("torch.ops.aten.from_file.default"),
            "holds the operator torch.ops.aten.from_file.default, which no",
        ),
        (with_operator("torch.hub.load"), "holds the operator torch.hub.load"),
        (with_operator("_operator.add"), "holds the operator _operator.add"),
        (with_entry(guards_code=["__import__('os').system('true')"]), "expressions to evaluate"),
        (with_entry(range_constraints={"s0": {"expr_str": "x"}}), "expressions to evaluate"),
        (lambda records: records.pop("archive/models/model.json"), "torch cannot read it"),
        (lambda records: records.update({"archive/models/model.json": b'{"graph_module": 1}'}), "torch cannot read it"),
    ],
    ids=[
        "inputs",
        "weight",
        "legacy",
        "library",
        "double",
        "file",
        "hub",
        "python",
        "guards",
        "expression",
        "lost",
        "empty",
    ],
)
def test_a_pt2_that_would_run_more_than_a_network_is_refused(tmp_path, monkeypatch, made, change, said):
    monkeypatch.chdir(tmp_path)
    path = rewritten(made("pt2").path, tmp_path / "bad.pt2", change)
    with pytest.raises(InvalidExport, match=said) as caught:
        load_exported(path)
    assert "\n" not in str(caught.value)
    assert not Path("exploded").exists()


class Reader(nn.Module):
    """Reads a file of the user's when it is run."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.from_file("/etc/hostname", size=1, dtype=torch.uint8) + x


class Waker(nn.Module):
    """Does something when it is loaded."""

    def __init__(self) -> None:
        super().__init__()
        self.training = False

    @torch.jit.export
    def __getstate__(self) -> int:
        return 1

    @torch.jit.export
    def __setstate__(self, state: int) -> None:
        torch.save(torch.ones(1), "exploded")
        self.training = False

    def forward(self, x: Tensor) -> Tensor:
        return x


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (Reader, "holds the operator aten::from_file, which no generator needs"),
        (Waker, r"runs when it is read \(__setstate__\)"),
    ],
)
def test_a_torchscript_that_would_do_more_than_compute_is_refused(tmp_path, monkeypatch, made, make, said):
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(
            torch.jit.script(make()),
            tmp_path / "bad.ts",
            _extra_files={"declouder.json": made("torchscript").record.text().encode()},
        )
    with pytest.raises(InvalidExport, match=said):
        load_exported(tmp_path / "bad.ts")
    assert not Path("exploded").exists()
