"""Hold the rate of z at a target in bits by moving its price while the model trains.

After the warm-up, at each step: log beta <- log beta + gain * e + damping * (e - e before), with e = log(R / R*) within +-LIMIT, R a moving average of
the bits paid and R* the target: proportional and integral control. Near the target e is (R - R*) / R*; far from it the price moves at a steady
pace, since one that leaps beyond what z is worth kills it: on fork a Gaussian z with four times its target was dead after 20 steps of the integral alone
with gain .1. The bits answer a price some 25 steps late, so that without damping a gain that is quick swings for ever (gain .1: between .2 and 2 bits); with it the gain
need not fall towards the end of a run, where learning rates are small, bits answer slower still, and a price that hardly moves leaves them where they are (docs/results/limits.md, point 7).
It is the controller of Rezende & Viola 2018 ("Taming VAEs", section 3) and Shao et al. 2020 (ControlVAE) with the
constraint on the rate. beta is a buffer of the energy, so that free energies are at the price that training ended with.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from vidssl.energy.base import Energy, LatentEnergy
from vidssl.objectives.limited import LimitedLatent
from vidssl.types import Batch, Moment, StepOutput, UserError


LIMIT = 0.3


class TargetRate(LimitedLatent):
    """:class:`LimitedLatent` whose price finds itself.

    Args:
        scale, warmup, start: as in :class:`LimitedLatent`.
        target_bits: R*, bits per predicted clip.
        gain, damping: of the controller, per step and per change. memory: of the average of bits, per step.
        least, most: bounds of the price.

    Raises:
        UserError: a target that is not positive; at the first step, one that the latent cannot reach, or a latent without a price.
    """

    bits: Tensor
    error: Tensor

    def __init__(
        self,
        scale: float,
        target_bits: float,
        warmup: float = 0.2,
        start: float = 0.0,
        gain: float = 0.05,
        damping: float = 2.0,
        memory: float = 0.9,
        least: float = 1e-6,
        most: float = 1e3,
    ) -> None:
        super().__init__(scale, warmup, start)
        if target_bits <= 0:
            raise UserError(f"a target rate is positive; got target_bits {target_bits}: for no latent at all take NoLatent")
        self.target_bits, self.gain, self.memory, self.least, self.most = target_bits, gain, memory, least, most
        self.damping = damping
        self.register_buffer("bits", torch.tensor(float(target_bits)))
        self.register_buffer("error", torch.zeros(()))

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
        error = (self.bits / self.target_bits).clamp_min(1e-6).log().clamp(-LIMIT, LIMIT)
        price.mul_((self.gain * error + self.damping * (error - self.error)).exp()).clamp_(self.least, self.most)
        self.error.copy_(error)
