"""One step of the training: a forward pass, the six losses, the two optimisers."""

from __future__ import annotations

import logging
import math

import numpy as np
import torch
from torch import Tensor

from srgan.adversarial import AdversarialLoss
from srgan.attainable import attainable
from srgan.dataset import Batch
from srgan.devices import Devices
from srgan.generator import GeneratorOutput
from srgan.losses import SupervisedLosses
from srgan.settings import TrainSettings
from srgan.spec import BANDS
from srgan.state import TrainState
from srgan.uncertainty import likelihood

LOG = logging.getLogger(__name__)

STYLE_LIMIT = 0.3
"""Share of the gradient beyond which style is said to lead: its usual weight was found on photographs."""

NATURAL = ("B04", "B03", "B02")
"""The triple that the perceptual terms always look at; B10 holds no ground."""


class Stepper:
    """Takes the steps of a state."""

    def __init__(self, state: TrainState, losses: SupervisedLosses, devices: Devices, steps: int) -> None:
        self.state, self.losses, self.devices, self.steps = state, losses, devices, steps
        self.settings = state.settings
        self.gan = AdversarialLoss(self.settings.gan)
        cuda = devices.device.type == "cuda"
        self.half = self.settings.precision == "bf16" or (self.settings.precision == "auto" and cuda)

    def update(self, batch: Batch) -> dict[str, float] | None:
        """One step of both optimisers; None where something was not finite and nothing was changed."""
        state, settings = self.state, self.settings
        rate = rate_at(state.step, self.steps, settings)
        weight = gan_weight(state.step, self.steps, settings)
        output, losses = self.forward(batch, weight)
        total = torch.stack(list(losses.values())).sum()
        shares = self.shares(losses) if (state.step + 1) % settings.shares_every == 0 else {}
        norms = [self.descend(total, state.generator, state.optimiser)]
        if weight and state.discriminator is not None and state.opponent is not None:
            opinion = self.opinion(batch, output.restored.detach())
            losses["discriminator"] = opinion
            norms.append(self.descend(opinion, state.discriminator, state.opponent))
        # Said by all processes together: one that steps while another skips would have other weights from then on.
        if self.devices.agree(flag=not bool(torch.isfinite(torch.stack([total.detach(), *norms])).all())):
            return None
        for optimiser, factor in (
            (state.optimiser, 1.0),
            (state.opponent if len(norms) > 1 else None, settings.discriminator_share),
        ):
            if optimiser is not None:
                for group in optimiser.param_groups:
                    group["lr"] = rate * factor
                optimiser.step()
        # A moving average over as many steps as there were, at first: 0.999 would remember the start for a thousand.
        state.follow(min(settings.average, (1 + state.step) / (10 + state.step)))
        losses |= {"total": total, "norm": norms[0]}
        # All at once: each number that is asked for by itself makes the host wait for the device.
        values = torch.stack([term.detach() for term in losses.values()]).tolist()
        return dict(zip(losses, values, strict=True)) | {"rate": rate} | shares

    def forward(self, batch: Batch, weight: float) -> tuple[GeneratorOutput, dict[str, Tensor]]:
        """The generator's output and the weighted terms of its loss."""
        state, settings = self.state, self.settings
        target = batch.target
        if settings.hold_guess:
            with torch.no_grad():
                target = attainable(batch, state.generator.mean)
        with self.autocast():
            output: GeneratorOutput = state.generator(*batch.inputs)
        triple = other_triple(settings.seed, state.step)
        raw = self.losses(output, target, batch.mask, known(batch), batch.present, triple)
        # Of the truth, and not of what could be asked for: the error of a guess below an opaque cloud is an error.
        raw["uncertainty"] = likelihood(
            output.uncertainty, output.restored, batch.target, batch.mask, known(batch), batch.present
        )
        weights = settings.losses.model_dump()
        losses = {name: weights[name] * term for name, term in raw.items() if weights[name]}
        if weight and state.discriminator is not None:
            state.discriminator.requires_grad_(requires_grad=False)
            with self.autocast():
                scores = state.discriminator(output.restored, batch.present)
            state.discriminator.requires_grad_(requires_grad=True)
            losses["adversarial"] = weight * self.gan.generator(scores)
        return output, losses

    def opinion(self, batch: Batch, made: Tensor) -> Tensor:
        """The discriminator's loss on clear images and on all that the generator made of a batch, (B, 13, H, W)."""
        discriminator = self.state.discriminator
        assert discriminator is not None  # noqa: S101 - for the type checker: asked for only where there is one
        truth, bands = clear_images(batch, made)
        with self.autocast():
            real, fake = discriminator(truth, bands), discriminator(made, batch.present)
        return self.gan.discriminator(real, fake)

    def descend(self, loss: Tensor, network: torch.nn.Module, optimiser: torch.optim.Optimizer) -> Tensor:
        """Gradients of a loss, the same on every device, cut to the norm; returns the norm before that."""
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.devices.average(parameter.grad for parameter in network.parameters())
        return torch.nn.utils.clip_grad_norm_(network.parameters(), self.settings.clip)

    def shares(self, losses: dict[str, Tensor]) -> dict[str, float]:
        """Share of each term in the sum of the norms of their gradients."""
        parameters = list(self.state.generator.parameters())
        norms = {}
        for name, term in losses.items():
            parts = torch.autograd.grad(term, parameters, retain_graph=True, allow_unused=True)
            norms[name] = math.sqrt(sum(float(part.square().sum()) for part in parts if part is not None))
        total = sum(norms.values()) or 1.0
        found = {f"share/{name}": norm / total for name, norm in norms.items()}
        if found.get("share/style", 0.0) > STYLE_LIMIT and self.devices.leads:
            LOG.warning(
                "step %d: style has %.0f %% of the gradient: lower losses.style",
                self.state.step + 1,
                100 * found["share/style"],
            )
        return found

    def autocast(self) -> torch.autocast:
        """bf16 for the networks' trunks where it is wanted; the losses stay outside."""
        return torch.autocast(self.devices.device.type, torch.bfloat16, enabled=self.half)


def known(batch: Batch) -> Tensor:
    """Values that are compared, (B, 13, H, W): the target is known and the band present."""
    return batch.counts * batch.present[:, :, None, None]


def clear_images(batch: Batch, made: Tensor) -> tuple[Tensor, Tensor]:
    """What the discriminator is shown as real, (N, 13, H, W), and its bands (N, 13): the targets that are known under their clouds.

    An unpaired sample is none of them: in the place of its clouds it would show what the generator `made`, which is shown as made.
    What little is not known elsewhere (a cloud of the clear date) is filled by that. All samples where none is known.
    """
    under = (batch.mask * batch.counts).sum((1, 2, 3)) >= 0.5 * batch.mask.sum((1, 2, 3))
    chosen = under if bool(under.any()) else torch.ones_like(under)
    truth = torch.where(known(batch) > 0, batch.target, made)
    return truth[chosen], batch.present[chosen]


def other_triple(seed: int, step: int) -> tuple[int, int, int]:
    """Three of the bands that the eye does not see, drawn by the step: what else the perceptual terms look at."""
    others = [index for index, band in enumerate(BANDS) if band not in NATURAL and band != "B10"]
    first, second, third = np.random.default_rng((seed, step)).choice(others, 3, replace=False).tolist()
    return first, second, third


def rate_at(step: int, steps: int, settings: TrainSettings) -> float:
    """Learning rate: a linear warm-up, then constant, or a cosine down to a hundredth."""
    warm = min(1.0, (step + 1) / max(settings.warmup, 1))
    if settings.schedule == "constant":
        return settings.rate * warm
    return settings.rate * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps))))


def gan_weight(step: int, steps: int, settings: TrainSettings) -> float:
    """Weight of the adversarial term: 0 at first, then a linear ramp."""
    start, ramp = settings.gan_start * steps, settings.gan_ramp * steps
    return settings.losses.adversarial * min(1.0, max(0.0, (step + 1 - start) / max(ramp, 1.0)))
