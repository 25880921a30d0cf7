"""z from the encoder, refined by descent, to which the encoder then regresses: semi-amortised inference.

A few steps as in `minimised.py`; the encoder pays weight * |e(x, y) - sg z*|^2, in squared error (Evtimova & LeCun 2022; before it
predictive sparse decomposition, Kavukcuoglu, Ranzato & LeCun 2008). No gradient passes through the steps. Failure mode: while the
encoder lags, networks learn at codes that one pass will not find again; energies by one pass then look worse than they are.
"""

from __future__ import annotations

from torch import Tensor

from vidssl.latents.base import Code, Latent
from vidssl.latents.inference import Score
from vidssl.latents.search.minimised import Descent

LEAST = 1e-6


def regress(code: Code, guess: Tensor, weight: float, price: Tensor) -> Code:
    """The code with weight * |guess - sg code|^2 in its penalty.

    A penalty is multiplied by the price afterwards, so here it is divided by it: the regression weighs the same at any price, except
    that there is none where the price is 0.
    """
    assert code.symbols is not None
    distance = (guess - code.symbols).square().sum(-1)
    code.penalty = code.penalty + weight * distance / price.detach().clamp_min(LEAST)
    return code


class Refined(Descent):
    """The encoder's code after a few steps.

    Args:
        steps: of the search. lr: the first step's size, in units of the code.
        weight: of the encoder's regression, squared error per unit of the code squared.
    """

    def __init__(self, steps: int = 5, lr: float = 0.1, weight: float = 1.0) -> None:
        super().__init__(steps, lr, True)
        self.weight = weight

    def find(
        self, latent: Latent, context: Tensor, target: Tensor | None, score: Score, price: Tensor, generator: torch.Generator | None
    ) -> Code:
        """The code found; its penalty teaches the encoder."""
        guess = self.start(latent, context, target)
        code = latent.settle(context, self.search(latent, context, score, price, guess))
        return regress(code, guess, self.weight, price)
