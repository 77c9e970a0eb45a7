"""VGG-16 up to relu3_3, frozen: what the perceptual and style losses look through.

Simonyan, Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015, table 1, column D. A stack of
our own under torchvision's names (`features.0.weight` ...), because torchvision is no requirement. It is made from weights and in
no other way, so that it can never hold random ones.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import pickle
import secrets
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from srgan.errors import ModelError
from srgan.known import in_float32

ENVIRONMENT = "DECLOUD_VGG_WEIGHTS"
"""Variable that may name the weights' file."""

URL = "https://download.pytorch.org/models/vgg16-397923af.pth"
SHA256 = "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0"
"""torchvision's published weights, `VGG16_Weights.IMAGENET1K_V1`."""

SHAPES = {0: (64, 3), 2: (64, 64), 5: (128, 64), 7: (128, 128), 10: (256, 128), 12: (256, 256), 14: (256, 256)}
"""Channels out and in of each convolution, by its number in torchvision's `features`."""
POOLS = (4, 9)
TAPS = (3, 8, 15)
"""Layers whose output is taken: relu1_2, relu2_2, relu3_3."""

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's statistics, to which the weights belong."""

OTHERWISE = "give a file with --vgg-weights, or train without it (perceptual: 0, style: 0)"


class NoVggWeights(ModelError):
    """No usable weights of VGG-16: missing, damaged, of other shapes, or not to be had without a network."""


class FrozenConvolution(nn.Module):
    """3x3 convolution whose weights are buffers that belong to no `state_dict`, and parameters of nothing."""

    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        weight = weight.detach().clone(memory_format=torch.channels_last)  # a sixth faster on a CPU
        self.register_buffer("weight", weight, persistent=False)
        self.register_buffer("bias", bias.detach().clone(), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D, H, W)."""
        return F.conv2d(image, self.weight, self.bias, padding=1)


class Vgg16(nn.Module):
    """Features relu1_2, relu2_2 and relu3_3 of an RGB image. float32 and in evaluation mode, always.

    It has no parameters and an empty `state_dict`: no optimiser can move it and no checkpoint of a module that holds it grows.
    `to(device)` moves it. Get it from `load_vgg`.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        """`weights`: `features.N.weight` (D, C, 3, 3) and `features.N.bias` (D,) for N in `SHAPES`; others are left aside."""
        super().__init__()
        layers: list[nn.Module] = []
        for index in range(TAPS[-1] + 1):
            if index in SHAPES:
                name = f"features.{index}"
                layers.append(FrozenConvolution(weights[f"{name}.weight"], weights[f"{name}.bias"]))
            else:
                layers.append(nn.MaxPool2d(2) if index in POOLS else nn.ReLU(inplace=True))
        self.features = nn.Sequential(*layers)
        like = weights["features.0.weight"]
        self.register_buffer("mean", like.new_tensor(MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", like.new_tensor(STD)[:, None, None], persistent=False)
        self.eval()

    def train(self, mode: bool = True) -> Self:  # noqa: ARG002, FBT001, FBT002 # the signature of nn.Module
        """Stay in evaluation mode, whatever a module that holds this one is told."""
        return super().train(mode=False)

    @in_float32
    def forward(self, image: Tensor) -> list[Tensor]:
        """RGB (B, 3, H, W) in 0..1 -> (B, 64, H, W), (B, 128, H/2, W/2), (B, 256, H/4, W/4). Runs outside autocast.

        On a GPU, torch's setting for TF32 decides on the last bits of its convolutions.
        """
        taken: list[Tensor] = []
        features = ((image - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        for index, layer in enumerate(self.features):
            features = layer(features)
            if index in TAPS:
                taken.append(features)
        return taken


def load_vgg(path: str | Path | None = None) -> Vgg16:
    """VGG-16 from a file: `.safetensors` (float16 or float32), else torchvision's `vgg16-397923af.pth`, by its checksum.

    Without `path`: the file that $DECLOUD_VGG_WEIGHTS names, else the one in torch hub's cache, else it is fetched there from
    torchvision's address. Raises NoVggWeights.
    """
    if path is None:
        path = os.environ.get(ENVIRONMENT) or cached()
    return Vgg16(read_weights(Path(path)))


def read_weights(file: Path) -> dict[str, Tensor]:
    """The tensors through features.14, float32, checked. Raises NoVggWeights."""
    try:
        if file.suffix == ".safetensors":
            tensors = load_file(file)
        else:
            if (digest := sha256_of(file)) != SHA256:
                raise NoVggWeights(
                    f"VGG-16 weights {file}: sha256 {digest[:12]}... is not that of torchvision's vgg16-397923af.pth "
                    f"({SHA256[:12]}...): truncated or another file; {OTHERWISE}"
                )
            tensors = torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        raise NoVggWeights(f"VGG-16 weights {file}: cannot be read ({error.strerror or error}): {OTHERWISE}") from error
    except (SafetensorError, pickle.UnpicklingError, EOFError, RuntimeError, ValueError) as error:
        raise NoVggWeights(
            f"VGG-16 weights {file}: damaged ({(str(error) or 'empty').splitlines()[0]}): fetch it again, or {OTHERWISE}"
        ) from error
    weights: dict[str, Tensor] = {}
    for index, (out, channels) in SHAPES.items():
        for part, shape in (("weight", (out, channels, 3, 3)), ("bias", (out,))):
            name = f"features.{index}.{part}"
            if name not in tensors:
                raise NoVggWeights(f"VGG-16 weights {file}: {name} is missing: no VGG-16 of torchvision's; {OTHERWISE}")
            tensor = tensors[name]
            if tuple(tensor.shape) != shape:
                raise NoVggWeights(
                    f"VGG-16 weights {file}: {name} has shape {tuple(tensor.shape)}, VGG-16 has {shape}; {OTHERWISE}"
                )
            weights[name] = tensor.float()
            if not tensor.is_floating_point() or not bool(weights[name].isfinite().all()):
                raise NoVggWeights(
                    f"VGG-16 weights {file}: {name} holds values that are no finite real numbers; {OTHERWISE}"
                )
    return weights


def cached() -> Path:
    """torchvision's file in torch hub's cache; fetched where it is not there yet. Raises NoVggWeights."""
    file = Path(torch.hub.get_dir()) / "checkpoints" / URL.rpartition("/")[2]
    if not file.exists():
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            fetch(file)
        except (OSError, http.client.HTTPException) as error:
            raise NoVggWeights(f"VGG-16 weights: not at {file}, and {URL} gives none ({error}): {OTHERWISE}") from error
    return file


def fetch(file: Path) -> None:
    """Download torchvision's weights beside `file`, compare the checksum, then rename: half a file is never seen."""
    digest = hashlib.sha256()
    part = file.with_name(f".{file.name}.{secrets.token_hex(4)}.part")  # several processes may fetch at a time
    try:
        with part.open("xb") as target, urllib.request.urlopen(URL, timeout=60) as source:
            while chunk := source.read(1 << 20):
                digest.update(chunk)
                target.write(chunk)
            target.flush()
            os.fsync(target.fileno())
        if digest.hexdigest() != SHA256:
            raise NoVggWeights(
                f"VGG-16 weights: {URL} gave another file (sha256 {digest.hexdigest()[:12]}...): {OTHERWISE}"
            )
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)


def sha256_of(file: Path) -> str:
    """Checksum of a file, hex."""
    with file.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()
