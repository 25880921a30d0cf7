"""torchvision's video networks as encoders: r3d_18, mc3_18, r2plus1d_18 (Tran et al. 2018), s3d (Xie et al. 2018), mvit_v2_s (Li et al. 2022), swin3d_t (Liu et al. 2022).

The map is what the classifier would pool (of mvit_v2_s, whose classifier reads a token of its own, all other tokens), averaged over time:
``[B, T, C, H, W] -> [B, D, H/patch, W/patch]``. Grey is repeated to three channels, and pixels stay in [0, 1] unless `mean` and `std` are given. Four things differ from torchvision, none of them in the names or shapes of tensors: there is no classifier; batch
statistics are those of all processes, and s3d's running ones move by 0.1 a step and not by 0.001 (after 1000 steps they would still be a third
of what they started with); blocks are never dropped at random, since noise in a step comes from the step's generator; s3d starts with He's weights as the ResNets
do (with torch's own its untrained features have a spread of 1e-7). Where a map is smaller than a window of swin3d_t, torchvision gives its places biases of other distances.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models import get_model_weights, video
from torchvision.ops import StochasticDepth

from vidssl.files import zip_harm
from vidssl.nets.encoders import Encoder
from vidssl.nets.gather import gather, world
from vidssl.types import UserError


class TorchvisionEncoder(Encoder):
    """One of torchvision's networks, without its classifier.

    Args:
        network: its name in ``torchvision.models.video``.
        frames, channels, size: of the clips; 1 or 3 channels. `mvit_v2_s` takes 15 or 16 frames of 224 pixels, `s3d` 5 frames or more of 32 or more pixels.
        weights: a file with a state dict of torchvision's class (.pth, .safetensors), with or without its classifier; None starts at random.
            A model that is written down carries what it learned, and not this path.
        mean, std: of three channels; pixels become (x - mean) / std. With `weights` they must be given, for they belong to them: without theirs features are wrong in silence.

    Attributes:
        network: torchvision's own module, with an identity in place of the classifier.

    Raises:
        UserError: an unknown network, clips that it cannot take, or weights that do not fit, with both numbers.
    """

    def __init__(
        self,
        network: str,
        frames: int,
        channels: int,
        size: int,
        weights: str | None = None,
        mean: list[float] | None = None,
        std: list[float] | None = None,
    ) -> None:
        super().__init__()
        if network not in KINDS:
            raise UserError(f"torchvision's networks here are {', '.join(KINDS)}; got {network!r}")
        if channels not in (1, 3):
            raise UserError(f"torchvision's networks take 3 channels, or 1 that is repeated; got {channels}: change channels")
        self.kind, self.name = KINDS[network], network
        self.frames, self.channels, self.width, self.patch = frames, channels, self.kind.width, self.kind.patch
        _within(network, "frames", frames, *self.kind.frames)
        _within(network, "pixels along a side", size, *self.kind.sizes)
        if size % self.patch:
            raise UserError(f"{network} takes sizes that are multiples of {self.patch}; got {size}: change size")
        self._scale(network, weights, mean, std)
        given = None if weights is None else _read(weights)
        self.network = getattr(video, network)(weights=None)
        self.classifier = {f"{self.kind.classifier}.{k}": list(v.shape) for k, v in getattr(self.network, self.kind.classifier).state_dict().items()}
        setattr(self.network, self.kind.classifier, nn.Identity())
        for name, part in list(self.network.named_modules()):
            if isinstance(part, nn.BatchNorm3d):
                self.network.set_submodule(name, JointBatchNorm(part.num_features, part.eps))
            elif isinstance(part, StochasticDepth):
                part.p = 0.0
            elif isinstance(part, nn.Conv3d) and network == "s3d":
                nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
        if given is not None:
            _fill(self.network, given, self.classifier, network, str(weights))
            self.__dict__["_arguments"]["weights"] = None  # whoever builds the model from its card has its tensors, and not this file

    def _scale(self, network: str, weights: str | None, mean: list[float] | None, std: list[float] | None) -> None:
        """Keep mean and std, or refuse what is none."""
        if weights is not None and (mean is None or std is None):
            usual = get_model_weights(network).DEFAULT.transforms()
            raise UserError(f"weights belong to a mean and std of pixels, got {weights!r} alone: give both; torchvision's own of {network}: mean {usual.mean}, std {usual.std}")
        mean, std = [0.0] * 3 if mean is None else mean, [1.0] * 3 if std is None else std
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise UserError(f"mean and std are 3 numbers each, std above 0; got {mean} and {std}")
        self.scaled = mean != [0.0] * 3 or std != [1.0] * 3
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> TorchvisionEncoder:
        # Energies lay their weights out with channels last, which torch knows for images and refuses for kernels of three dimensions. With time and rows as
        # one axis these are images, and so laid out they are what torch calls channels_last_3d.
        return super()._apply(lambda t: fn(t.flatten(2, 3)).unflatten(2, t.shape[2:4]) if t.ndim == 5 else fn(t), recurse)

    def check(self, clip: Tensor) -> None:
        """Refuse clips that the network cannot take.

        Raises:
            UserError: another number of axes, frames or channels, or a size that it does not take.
        """
        super().check(clip)
        for side in clip.shape[3:]:
            _within(self.name, "pixels along a side", side, *self.kind.sizes)

    def seen(self, clip: Tensor) -> Tensor:
        """The clip as the network takes it, ``[B, T, C, H, W] -> [B, 3, T, H, W]``."""
        clip = clip.expand(-1, -1, 3, -1, -1)
        return ((clip - self.mean) / self.std if self.scaled else clip).transpose(1, 2)

    def forward(self, clip: Tensor) -> Tensor:
        """``[B, T, C, H, W] -> [B, D, H/patch, W/patch]``."""
        self.check(clip)
        return self.kind.features(self.network, self.seen(clip)).mean(2)

    def torchvision_state(self) -> dict[str, Tensor]:
        """A state dict that torchvision's own class loads with ``strict=True``; its classifier, which never learned, is zeros."""
        return {**self.network.state_dict(), **{name: torch.zeros(shape) for name, shape in self.classifier.items()}}


class JointBatchNorm(nn.BatchNorm3d):
    """Batch normalisation of maps over time and space with the statistics of the joint batch of all processes, each having as many rows.

    Raises:
        UserError: one value for each feature, in training.
    """

    def forward(self, h: Tensor) -> Tensor:
        """``[B, D, T, H, W] -> [B, D, T, H, W]``."""
        n = world() * h.numel() // h.shape[1]
        if self.training and n < 2:
            raise UserError(f"batch statistics need at least 2 values; got {n}: raise batch_size")
        if not self.training or world() == 1:
            return super().forward(h)
        wide = h.to(torch.promote_types(h.dtype, torch.float32))
        mean = _joint(wide)
        centred = wide - mean[:, None, None, None]
        variance = _joint(centred.square())
        with torch.no_grad():
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
            self.running_var.lerp_((variance * n / (n - 1)).to(self.running_var.dtype), self.momentum)
            self.num_batches_tracked += 1
        scale = (variance + self.eps).rsqrt() * self.weight
        return (centred * scale[:, None, None, None] + self.bias[:, None, None, None]).to(h.dtype)


@dataclass(frozen=True)
class Kind:
    """What one must know of a network: its features ``[B, 3, T, H, W] -> [B, D, t, h, w]``, and the least and most frames and pixels that it takes."""

    width: int
    patch: int
    classifier: str
    features: Callable[[Any, Tensor], Tensor]
    frames: tuple[int, int | None] = (1, None)
    sizes: tuple[int, int | None] = (1, None)


def _resnet(net: Any, x: Tensor) -> Tensor:
    return net.layer4(net.layer3(net.layer2(net.layer1(net.stem(x)))))


def _s3d(net: Any, x: Tensor) -> Tensor:
    return net.features(x)


def _swin(net: Any, x: Tensor) -> Tensor:
    return net.norm(net.features(net.patch_embed(x))).movedim(-1, 1)


def _mvit(net: Any, x: Tensor) -> Tensor:
    h = net.pos_encoding(net.conv_proj(x).flatten(2).transpose(1, 2))
    grid = (net.pos_encoding.temporal_size, *net.pos_encoding.spatial_size)
    for block in net.blocks:
        h, grid = block(h, grid)
    return net.norm(h)[:, 1:].transpose(1, 2).unflatten(2, grid)  # all but the class token


KINDS = {
    "r3d_18": Kind(512, 16, "fc", _resnet),
    "mc3_18": Kind(512, 16, "fc", _resnet),
    "r2plus1d_18": Kind(512, 16, "fc", _resnet),
    "s3d": Kind(1024, 32, "classifier", _s3d, frames=(5, None), sizes=(32, None)),  # its last pooling leaves nothing of less
    "mvit_v2_s": Kind(768, 32, "head", _mvit, frames=(15, 16), sizes=(224, 224)),  # positions are parameters of this grid
    "swin3d_t": Kind(768, 32, "head", _swin),
}


def _joint(h: Tensor) -> Tensor:
    """The mean of each feature over all places of all processes."""
    return gather(h.mean((0, 2, 3, 4))[None]).mean(0)


def _within(network: str, what: str, value: int, least: int, most: int | None) -> None:
    if value < least or (most is not None and value > most):
        wanted = f"{least} or more" if most is None else f"{least}" if least == most else f"{least} to {most}"
        raise UserError(f"{network} takes {wanted} {what}; got {value}: change the clips, or take another network")


def _read(path: str) -> dict[str, Tensor]:
    """The tensors of a file; nothing else in it is opened."""
    if not Path(path).is_file():
        raise UserError(f"weights are a file with a state dict; there is no {path!r}")
    # old files of torchvision's are no archives; archives are held against their own table first
    if zipfile.is_zipfile(path) and (harm := zip_harm(path)):
        raise UserError(f"weights are a state dict and nothing more; {path!r} is damaged or none ({harm}): use another file")
    try:
        found = load_file(path) if path.endswith(".safetensors") else torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a file that is none may fail in any way
        raise UserError(f"weights are a state dict and nothing more; {path!r} cannot be read as one ({type(error).__name__}): use another file") from error
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise UserError(f"weights are a state dict, names and tensors; {path!r} holds something else: save the state_dict alone")
    return found


def _fill(net: nn.Module, given: dict[str, Tensor], classifier: dict[str, list[int]], network: str, path: str) -> None:
    """Put `given` into `net`: exactly its names and shapes, the classifier's aside."""
    wanted, given = net.state_dict(), {k: v for k, v in given.items() if k not in classifier}
    if other := sorted(wanted.keys() ^ given.keys()):
        where = "is missing" if other[0] in wanted else "is too much"
        raise UserError(f"{path!r} has {len(given)} tensors and {network} {len(wanted)}; {other[0]!r} {where}: use weights of {network}")
    for name, value in wanted.items():
        if given[name].shape != value.shape:
            raise UserError(f"{name!r} has shape {list(value.shape)} in {network} and {list(given[name].shape)} in {path!r}: use weights of {network}")
    net.load_state_dict(given)
