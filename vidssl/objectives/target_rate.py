"""Hold the rate of z at a target in bits by moving its price while the model trains.

After the warm-up, at each step: log beta <- log beta + gain * (R - R*) / R*, with R a moving average of the bits paid and R* the
target. It is the controller of Rezende & Viola 2018 ("Taming VAEs", section 3) and Shao et al. 2020 (ControlVAE) with the
constraint on the rate. beta is a buffer of the energy, so that free energies are at the price that training ended with.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from vidssl.energy.base import Energy, LatentEnergy
from vidssl.objectives.limited import LimitedLatent
from vidssl.types import Batch, Moment, StepOutput, UserError


class TargetRate(LimitedLatent):
    """:class:`LimitedLatent` whose price finds itself.

    Args:
        scale, warmup, start: as in :class:`LimitedLatent`.
        target_bits: R*, bits per predicted clip.
        gain: of the controller, per step. memory: of the average of bits, per step.
        least, most: bounds of the price.

    Raises:
        UserError: a target that is not positive; at the first step, one that the latent cannot reach, or a latent without a price.
    """

    bits: Tensor

    def __init__(
        self,
        scale: float,
        target_bits: float,
        warmup: float = 0.2,
        start: float = 0.0,
        gain: float = 0.03,
        memory: float = 0.9,
        least: float = 1e-6,
        most: float = 1e3,
    ) -> None:
        super().__init__(scale, warmup, start)
        if target_bits <= 0:
            raise UserError(f"a target rate is positive; got target_bits {target_bits}: for no latent at all take NoLatent")
        self.target_bits, self.gain, self.memory, self.least, self.most = target_bits, gain, memory, least, most
        self.register_buffer("bits", torch.tensor(float(target_bits)))

    def loss(self, energy: Energy, batch: Batch, moment: Moment) -> StepOutput:
        """One step's loss, after which the price has moved; logs the price, too."""
        if isinstance(energy, LatentEnergy) and moment.step == 0:
            self._check(energy)
        out = super().loss(energy, batch, moment)
        assert isinstance(energy, LatentEnergy)
        if moment.step == 0 and bool(out.logs["rate_bits"].isnan()):
            raise UserError(
                f"the z of this {type(energy.latent).__name__} is a real-valued point and its rate in bits is not known while training; "
                f"got target_bits {self.target_bits}: set the price instead"
            )
        if energy.training and moment.progress >= self.warmup:
            self._control(energy.price, out.logs["rate_bits"])
        out.logs["price"] = energy.price.clone()
        return out

    def _check(self, energy: LatentEnergy) -> None:
        name, capacity = type(energy.latent).__name__, energy.latent.capacity_bits
        if self.target_bits > capacity:
            raise UserError(
                f"a target rate lies within the capacity of z; got target_bits {self.target_bits} and {name} with {capacity:g} bits: "
                f"lower the target or enlarge the latent"
            )
        if self.target_bits < energy.latent.floor_bits:
            raise UserError(
                f"a target rate is not below what z pays at any price; got target_bits {self.target_bits} and {name} with a floor of "
                f"{energy.latent.floor_bits:g} bits: raise the target or lower the floor"
            )
        if not energy.latent.priced:
            raise UserError(f"{name} has no price that could hold its rate at target_bits {self.target_bits}; set its own size instead")

    @torch.no_grad()
    def _control(self, price: Tensor, bits: Tensor) -> None:
        bits = bits.detach().clone()
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(bits)
            bits /= dist.get_world_size()
        self.bits.lerp_(bits.to(self.bits), 1 - self.memory)
        price.mul_((self.gain * (self.bits / self.target_bits - 1)).clamp(-1, 1).exp()).clamp_(self.least, self.most)
