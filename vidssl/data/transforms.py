"""Augmentation of clips: one draw for all frames of a clip, pure in (seed, epoch, clip), batched, on any device."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vidssl.types import Batch, UserError, to_uint8, to_unit

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in grey (ITU-R BT.601), those of the decoders here."""
DRAWS = 10
BLUR_RADIUS = 3


class Augment:
    """Crop, flip, colour, grey and blur of past and future together, and of further views where a method wants them.

    Args:
        crop: smallest side of the square that is kept, as a share of the frame's; 1 keeps all.
        flip: probability of mirroring left and right.
        brightness: largest change, as a share.
        contrast: largest change about the clip's mean, as a share.
        grey: probability of losing colour.
        blur: probability of a Gaussian blur of 0.1 to 1.5 pixels.
        views: how many independently drawn versions of the clip go to ``Batch.views [V, B, T, C, H, W]``; x and y are then left as
            they are.

    Raises:
        UserError: a value outside its range.
    """

    def __init__(
        self,
        crop: float = 1.0,
        flip: float = 0.5,
        brightness: float = 0.0,
        contrast: float = 0.0,
        grey: float = 0.0,
        blur: float = 0.0,
        views: int = 0,
    ) -> None:
        shares = {"flip": flip, "brightness": brightness, "contrast": contrast, "grey": grey, "blur": blur}
        for name, value in shares.items():
            if not 0 <= value <= 1:
                raise UserError(f"{name} of an augmentation is from 0 to 1; got {value:g}")
        if not 0 < crop <= 1 or views < 0:
            raise UserError(f"crop of an augmentation is above 0 and at most 1, and views at least 0; got {crop:g} and {views}")
        self.crop, self.flip, self.brightness, self.contrast, self.grey, self.blur = crop, flip, brightness, contrast, grey, blur
        self.views = views

    def __call__(self, batch: Batch, seed: int, epoch: int) -> Batch:
        """The batch with its clips changed, or with views beside them; uint8 stays uint8."""
        clips, past = torch.cat([batch.x, batch.y], 1), batch.x.shape[1]
        keys = batch.key.tolist()
        if self.views:
            made = [self.apply(clips, draws(seed, epoch, keys, view)) for view in range(1, self.views + 1)]
            return replace(batch, views=torch.stack(made))
        clips = self.apply(clips, draws(seed, epoch, keys, 0))
        return replace(batch, x=clips[:, :past], y=clips[:, past:])

    def apply(self, clips: Tensor, u: Tensor) -> Tensor:
        """Change ``clips [B, T, C, H, W]`` by uniform draws ``u [B, DRAWS]``."""
        u = u.to(clips.device)
        made = to_unit(clips)
        made = self._cut(made, u[:, :4])
        made = self._colour(made, u[:, 4:7])
        made = self._blur(made, u[:, 7:9])
        return made if clips.is_floating_point() else to_uint8(made.clamp(0, 1))

    def _cut(self, clips: Tensor, u: Tensor) -> Tensor:
        mirrored = u[:, 3] < self.flip
        if self.crop == 1:  # exact: no pixel is interpolated
            return torch.where(mirrored[:, None, None, None, None], clips.flip(-1), clips)
        side = self.crop + (1 - self.crop) * u[:, 0]
        theta = torch.zeros(len(u), 2, 3, device=clips.device)
        theta[:, 0, 0], theta[:, 1, 1] = torch.where(mirrored, -side, side), side
        theta[:, 0, 2], theta[:, 1, 2] = ((2 * u[:, 1:3] - 1) * (1 - side)[:, None]).unbind(1)
        shape = (len(u), clips.shape[1] * clips.shape[2], *clips.shape[3:])
        grid = F.affine_grid(theta, list(shape), align_corners=False)
        return F.grid_sample(clips.reshape(shape), grid, padding_mode="border", align_corners=False).view_as(clips)

    def _colour(self, clips: Tensor, u: Tensor) -> Tensor:
        factor = (2 * u[:, :2] - 1) * torch.tensor([self.brightness, self.contrast], device=u.device) + 1
        light, contrast = factor[:, :, None, None, None, None].unbind(1)
        if self.brightness:
            clips = clips * light
        if self.contrast:
            mean = clips.mean((1, 2, 3, 4), keepdim=True)
            clips = mean + (clips - mean) * contrast
        if self.grey and clips.shape[2] == 3:
            weights = torch.tensor(LUMA, device=clips.device)[:, None, None]
            lost = u[:, 2, None, None, None, None] < self.grey
            clips = torch.where(lost, (clips * weights).sum(2, keepdim=True), clips)
        return clips

    def _blur(self, clips: Tensor, u: Tensor) -> Tensor:
        if not self.blur:
            return clips
        sigma = 0.1 + 1.4 * u[:, 1]
        offsets = torch.arange(-BLUR_RADIUS, BLUR_RADIUS + 1, device=u.device)
        kernel = torch.exp(-(offsets**2) / (2 * sigma[:, None] ** 2))
        kernel = torch.where(u[:, :1] < self.blur, kernel / kernel.sum(1, keepdim=True), (offsets == 0).float())
        frames = clips.flatten(1, 2)  # a clip's frames and channels share its kernel; [B, T C, H, W]
        for shape, pad in (((-1, 1, 1, 2 * BLUR_RADIUS + 1), (BLUR_RADIUS,) * 2 + (0, 0)), ((-1, 1, 2 * BLUR_RADIUS + 1, 1), (0, 0) + (BLUR_RADIUS,) * 2)):
            padded = F.pad(frames, pad, mode="replicate").transpose(0, 1)
            frames = F.conv2d(padded, kernel.view(shape), groups=len(kernel)).transpose(0, 1)
        return frames.reshape(clips.shape)


def draws(seed: int, epoch: int, keys: list[int], view: int) -> Tensor:
    """Uniform draws ``[B, DRAWS]`` float32 that nothing but (seed, epoch, key, view) determines."""
    rows = [np.random.Generator(np.random.Philox(key=[seed, epoch], counter=[0, 0, view, key])).random(DRAWS) for key in keys]
    return torch.from_numpy(np.array(rows, np.float32))
