"""A training from pairs to exports, with or without Prefect around each step: chips, fit, export, card.

`Steps` are the four functions that `run_training` calls one after another; the flow puts tasks in their place. Each can be
called again: chips that are complete are kept, training goes on from its last state, and an export is made once for a checkpoint.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import math
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.folder import check_folder
from flows.interrupts import asked, check, checked, noted
from flows.train_request import TrainRequest
from flows.train_watch import TrainWatcher
from flows.trained import Chips, Exported, Fitted, Trained
from pipeline.errors import InvalidSettings, WriteFailed
from pipeline.lock import locked
from pipeline.progress import Progress
from srgan.archive import SUFFIXES, Format
from srgan.store import ChipStore

STATE, BEST, CHIPS, EXPORTS = "last.safetensors", "best.safetensors", "chips", "export"
"""What a training leaves in its folder."""
ONNX_PARTS = ("onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True)
class Steps:
    """What is done, one after another."""

    chips: Callable[[TrainRequest], Chips]
    fit: Callable[[TrainRequest, Chips], Fitted]
    export: Callable[[TrainRequest, Fitted, Format], Exported]
    card: Callable[[TrainRequest, Fitted], str]


def direct_steps(watcher: TrainWatcher, *, resume: bool) -> Steps:
    """The steps in this process, told to `watcher`."""
    return Steps(
        chips=lambda request: make_chips(request, checked(watcher.stage)),
        fit=lambda request, chips: fit(request, chips, watcher, resume=resume),
        export=lambda request, fitted, kind: export(request, fitted, kind, checked(watcher.stage)),
        card=write_page,
    )


def run_training(request: TrainRequest, steps: Steps) -> Trained:
    """Take the steps in turn.

    Raises InvalidSettings, and whatever the steps raise: ModelError, PipelineError, CatalogError, and KeyboardInterrupt, after which
    the same request goes on.
    """
    check_request(request)
    with _alone(request.output):
        chips = steps.chips(request)
        fitted = steps.fit(request, chips)
        if not fitted.best or not leads():
            return Trained(str(request.output), chips, fitted)
        check()
        exports = tuple(steps.export(request, fitted, kind) for kind in request.export)
        return Trained(str(request.output), chips, fitted, exports, steps.card(request, fitted))


def holds_state(output: Path) -> bool:
    """Whether a training can go on in this folder."""
    return (output / STATE).is_file()


def check_output(output: Path, *, resume: bool) -> None:
    """Raise InvalidSettings where a training is there and is not to be gone on with, or the other way round."""
    check_folder(output)
    if resume and not holds_state(output):
        raise InvalidSettings(f"--resume: {output} holds no training state ({STATE}); leave --resume out to begin one")
    if not resume and (found := next((name for name in (STATE, BEST) if (output / name).exists()), None)):
        raise InvalidSettings(
            f"--output {output} holds a training already ({found}): go on with it by --resume, or name another folder"
        )


def check_request(request: TrainRequest) -> None:
    """Raise for what can be known to be wrong before chips are made: folder, device, VGG weights, ONNX's packages."""
    from srgan.devices import pick
    from srgan.vgg import load_vgg

    check_folder(request.output)
    pick(request.device)
    missing = [name for name in ONNX_PARTS if importlib.util.find_spec(name) is None]
    if "onnx" in request.export and missing:
        raise InvalidSettings(
            f"--export onnx needs {', '.join(missing)}: pip install 'declouder[onnx]', or leave it out"
        )
    if request.train_settings().losses.needs_vgg:
        load_vgg(request.vgg_weights)


def make_chips(request: TrainRequest, progress: Progress) -> Chips:
    """The chip store of a request: the one that it names, or `OUTPUT/chips`, made of its pair tables.

    Raises InvalidSettings for tables and stores mixed, CatalogError for a table that cannot be read, PipelineError for pixels.
    """
    folder, left_out = _named_store(request), tuple[str, ...]()
    if folder is None:
        if os.environ.get("WORLD_SIZE", "1") != "1":
            raise InvalidSettings("several processes cannot write one chip store: make it first, and name its folder")
        from catalogs.pairs import PairTable
        from catalogs.splits import Splits
        from pipeline.chipstore import write_store

        splits = Splits.read(request.splits) if request.splits is not None else None
        folder = request.output / CHIPS
        tables = [PairTable.read(path) for path in request.pairs]
        manifest = write_store(tables, folder, splits=splits, needed=("train", "val"), progress=progress)
        left_out = tuple(f"{what}: {reason}" for what, reason in manifest["left_out"])
    store = ChipStore(folder)
    names = [chip.split for chip in store.chips]
    return Chips(str(folder), {name: names.count(name) for name in sorted(set(names))}, store.split_hash, left_out)


def fit(request: TrainRequest, chips: Chips, watcher: TrainWatcher, *, resume: bool) -> Fitted:
    """Train, or go on training.

    Raises ModelError, and KeyboardInterrupt for a ctrl-C after the step under way was finished and saved.
    """
    from srgan.trainer import train

    told = 0

    def tell(progress: Any) -> None:
        nonlocal told
        told += 1
        watcher.step(progress)

    with noted("stopping: the step under way is finished and saved first; ctrl-C again leaves at once"):
        result = train(
            ChipStore(Path(chips.folder)),
            request.output,
            request.train_settings(),
            resume=resume,
            device=request.device,
            vgg_weights=Path(request.vgg_weights) if request.vgg_weights else None,
            stop=asked,
            report=tell,
        )
    if result.interrupted:
        raise KeyboardInterrupt
    scores = {name: float(value) for name, value in result.scores.items() if math.isfinite(value)}
    return Fitted(result.step, str(result.best or ""), scores, told > 0)


def export(request: TrainRequest, fitted: Fitted, kind: Format, progress: Progress) -> Exported:
    """Export the best checkpoint to `OUTPUT/export`, with the report of its check beside it, unless that was done already.

    Raises ModelError, WriteFailed.
    """
    from srgan.atomic import write_atomic
    from srgan.checkpoint import load_checkpoint
    from srgan.export import export_checkpoint

    stage = f"export to {kind}"
    progress(stage, 0, 1)
    checkpoint = load_checkpoint(fitted.best)
    path = request.output / EXPORTS / f"{checkpoint.name}{SUFFIXES[kind][0]}"
    report_file = path.with_name(f"{path.name}.json")
    report = _report_of(path, report_file)
    kept = (report.get("weights"), report.get("margin")) == (checkpoint.digest, checkpoint.spec.margin)
    if not kept:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            report = export_checkpoint(checkpoint, path, kind).document()
            text = json.dumps(report | {"sha256": _sha256(path)}, indent=1)
            write_atomic(report_file, text.encode())
        except OSError as error:
            raise WriteFailed(f"{path}: cannot be written ({error.strerror}): make room, and resume") from error
    progress(stage, 1, 1)
    return Exported(kind, str(path), float(report["max_difference"]), kept)


def write_page(request: TrainRequest, fitted: Fitted) -> str:  # noqa: ARG001 - a step
    """Write the model card beside the best checkpoint; returns its path. Raises ModelError, WriteFailed."""
    from srgan.card import write_card

    try:
        return str(write_card(Path(fitted.best)))
    except OSError as error:
        raise WriteFailed(
            f"{fitted.best}: its card cannot be written ({error.strerror}): make room, and resume"
        ) from error


def leads() -> bool:
    """Whether this process writes what there is to write: the only one, or the first of those that torchrun started."""
    return os.environ.get("RANK", "0") == "0"


def _report_of(path: Path, report_file: Path) -> dict[str, Any]:
    """The report beside an export, empty where there is none or it is of another file."""
    try:
        report = json.loads(report_file.read_bytes())
        fits = isinstance(report, dict) and report["sha256"] == _sha256(path)
    except (OSError, ValueError, KeyError):
        return {}
    return report if fits else {}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _named_store(request: TrainRequest) -> Path | None:
    """The folder of the chip store that a request names; None where it names pair tables."""
    folders = [text for text in request.pairs if Path(text).is_dir()]
    if not folders:
        return None
    if len(request.pairs) > 1:
        raise InvalidSettings(f"{folders[0]} is a folder: name one chip store, or pair tables (.parquet), not both")
    if request.splits is not None:
        raise InvalidSettings(f"--splits goes with pair tables: the chips of {folders[0]} have their splits already")
    return Path(folders[0])


def _alone(output: Path) -> AbstractContextManager[None]:
    """Nobody else may train in this folder meanwhile."""
    return locked(output / f"{output.absolute().name}.lock") if leads() else nullcontext()
