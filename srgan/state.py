"""`TrainState`: what a training is made of, and its file, from which it goes on bit for bit on a CPU.

`last.safetensors` holds the weights, their moving average, the discriminator, both optimisers' moments, torch's random state, the
step and all settings. No order of samples is kept: a batch depends on (seed, step) alone, and so does the learning rate.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as format_tensors
from torch import Tensor, nn

from srgan.atomic import write_atomic
from srgan.checkpoint import load_checkpoint
from srgan.discriminator import Discriminator
from srgan.errors import InvalidCheckpoint, NotSaved
from srgan.generator import Generator
from srgan.settings import TrainSettings, make_settings

VERSION = "4"
MOMENTS = ("step", "exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class Material:
    """What a run learns from, besides its settings: with other material a resumed run would go on with other batches."""

    split_hash: str = ""
    chips: str = ""
    """Digest of the store's list of chips."""
    processes: int = 1

    def require(self, then: Material, path: Path) -> None:
        """Raise InvalidCheckpoint where a run that began with `then` cannot go on with this."""
        way = "or train anew in another folder"
        if then.split_hash != self.split_hash:
            raise InvalidCheckpoint(
                f"{path} was trained on another split ({then.split_hash[:12]}..., now {self.split_hash[:12]}...): resume with the "
                f"chips that it began with, {way}"
            )
        if then.chips != self.chips:
            raise InvalidCheckpoint(
                f"{path} was trained on other chips ({then.chips[:12]}..., now {self.chips[:12]}...): resume with those, {way}"
            )
        if then.processes != self.processes:
            raise InvalidCheckpoint(
                f"{path} was trained by {then.processes} processes, now there are {self.processes}: start as many, {way}"
            )


class TrainState:
    """Generator, its moving average, discriminator, optimisers and counters of a run."""

    def __init__(self, settings: TrainSettings, device: torch.device, material: Material | None = None) -> None:
        torch.manual_seed(settings.seed)
        self.settings, self.device, self.material = settings, device, material or Material()
        self.generator = Generator(settings.spec)
        if settings.start:
            start = load_checkpoint(settings.start)
            if _architecture(start.spec) != _architecture(settings.spec):
                raise InvalidCheckpoint(
                    f"start {settings.start}: widths {start.spec.widths}, guidance {start.spec.guidance}; the settings ask for "
                    f"widths {settings.spec.widths}, guidance {settings.guidance}: start from another, or change the model"
                )
            self.generator.load_state_dict(start.generator.state_dict())
            # Its strength was measured for its own weights: where that is 0, no gradient would reach the correction.
            self.generator.strength.fill_(1)
        self.discriminator = Discriminator(width=settings.discriminator_width) if settings.losses.adversarial else None
        self.average = Generator(settings.spec).requires_grad_(requires_grad=False).eval()
        self.average.load_state_dict(self.generator.state_dict())
        for network in (self.generator, self.average, self.discriminator):
            if network is not None:
                network.to(device)
        self.optimiser = self._optimiser(self.generator, settings.rate)
        self.opponent = self._optimiser(self.discriminator, settings.rate) if self.discriminator else None
        self.step = 0
        self.best = math.inf
        """Least validation error so far, RMSE on cloudy pixels."""
        self.first = math.nan
        """Validation error before the first step."""
        self.skipped = 0
        """Steps whose loss was not finite."""
        self.failures = 0
        """Of these, how many in a row."""

    def follow(self, keep: float) -> None:
        """Move the average towards the weights: `keep` of it stays."""
        with torch.no_grad():
            for mine, theirs in zip(self.average.parameters(), self.generator.parameters(), strict=True):
                mine.lerp_(theirs, 1 - keep)

    def save(self, path: Path) -> None:
        """Write everything that resuming needs, atomically. Raises NotSaved, and leaves the previous file, where that fails."""
        tensors = {f"{prefix}.{name}": value for prefix, name, value in self._tensors()}
        tensors["random.cpu"] = torch.get_rng_state()
        if self.device.type == "cuda":
            tensors["random.cuda"] = torch.cuda.get_rng_state(self.device)
        counters = {name: getattr(self, name) for name in ("step", "best", "first", "skipped", "failures")}
        meta = {
            "version": VERSION,
            "settings": self.settings.model_dump_json(),
            "material": json.dumps(asdict(self.material)),
            "counters": json.dumps(counters),
        }
        blob = format_tensors(
            {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}, meta
        )
        try:
            write_atomic(path, blob)
        except OSError as error:
            raise NotSaved(
                f"{path}: {len(blob) / 2**20:.0f} MiB could not be written ({error.strerror}); the previous state is as it was: "
                "make room and resume"
            ) from error

    @classmethod
    def load(
        cls, path: Path, settings: TrainSettings, device: torch.device, material: Material | None = None
    ) -> TrainState:
        """The state that `save` wrote.

        Raises InvalidCheckpoint where the file is none, or of other settings or other material than those given.
        """
        try:
            with safe_open(path, "pt") as file:
                meta = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 # no mapping
            if meta.get("version") != VERSION:
                raise InvalidCheckpoint(f"{path} is no training state of this version: train anew in another folder")
            then = make_settings(json.loads(meta["settings"]), str(path))
            counters: dict[str, Any] = json.loads(meta["counters"])
            began = Material(**json.loads(meta["material"]))
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise InvalidCheckpoint(
                f"{path} is no training state ({' '.join(str(error).split()):.80}): train anew in another folder"
            ) from error
        compare(then, settings, path)
        material = material or Material()
        material.require(began, path)
        # The weights to start from came with the state: the checkpoint that they were taken from may be gone.
        state = cls(settings.model_copy(update={"start": ""}), device, material)
        state.settings = settings
        try:
            state._fill(tensors)
            for name, value in counters.items():
                setattr(state, name, value)
        except (KeyError, RuntimeError) as error:
            raise InvalidCheckpoint(
                f"{path} does not hold this architecture ({' '.join(str(error).split()):.100}): train anew in another folder"
            ) from error
        return state

    def _fill(self, tensors: dict[str, Tensor]) -> None:
        def part(prefix: str) -> dict[str, Tensor]:
            head = f"{prefix}."
            return {name.removeprefix(head): value for name, value in tensors.items() if name.startswith(head)}

        for prefix, network in self._networks():
            network.load_state_dict(part(prefix))
        for prefix, network, optimiser in self._trained():
            for name, parameter in network.named_parameters():
                moments = {
                    key: tensors[f"{prefix}.{key}.{name}"] for key in MOMENTS if f"{prefix}.{key}.{name}" in tensors
                }
                if moments:
                    optimiser.state[parameter] = {
                        key: value if key == "step" and self.device.type == "cpu" else value.to(self.device)
                        for key, value in moments.items()
                    }
        torch.set_rng_state(tensors["random.cpu"])
        if "random.cuda" in tensors and self.device.type == "cuda":
            torch.cuda.set_rng_state(tensors["random.cuda"], self.device)

    def _networks(self) -> list[tuple[str, nn.Module]]:
        found: list[tuple[str, nn.Module]] = [("weights", self.generator), ("average", self.average)]
        return found if self.discriminator is None else [*found, ("discriminator", self.discriminator)]

    def _trained(self) -> list[tuple[str, nn.Module, torch.optim.Optimizer]]:
        found: list[tuple[str, nn.Module, torch.optim.Optimizer]] = [("optimiser", self.generator, self.optimiser)]
        if self.discriminator is not None and self.opponent is not None:
            found.append(("opponent", self.discriminator, self.opponent))
        return found

    def _tensors(self) -> list[tuple[str, str, Tensor]]:
        found = [
            (prefix, name, value)
            for prefix, network in self._networks()
            for name, value in network.state_dict().items()
        ]
        for prefix, network, optimiser in self._trained():
            for name, parameter in network.named_parameters():
                found += [(prefix, f"{key}.{name}", value) for key, value in optimiser.state.get(parameter, {}).items()]
        return found

    def _optimiser(self, network: nn.Module, rate: float) -> torch.optim.Optimizer:
        settings = self.settings
        return torch.optim.AdamW(
            network.parameters(),
            lr=rate,
            betas=(settings.beta1, settings.beta2),
            weight_decay=settings.decay,
            fused=True,
        )


def compare(then: TrainSettings, now: TrainSettings, path: Path) -> None:
    """Raise InvalidCheckpoint that names the first setting which differs."""
    old, new = then.model_dump(), now.model_dump()
    for name in old:
        if old[name] != new[name]:
            raise InvalidCheckpoint(
                f"{path} was made with {name} {old[name]}, now {name} is {new[name]}: resume with the same settings, or train "
                "anew in another folder"
            )


def _architecture(spec: Any) -> tuple[Any, ...]:
    return spec.widths, spec.depths, spec.guidance
