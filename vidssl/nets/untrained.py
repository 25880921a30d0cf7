"""The yardstick of features: the same architecture before it has learned anything."""

from __future__ import annotations

from typing import TypeVar

import torch

from vidssl.spec import Part, build, spec_of

Kind = TypeVar("Kind", bound=Part)


def untrained(part: Kind, seed: int = 0) -> Kind:
    """A part like `part` with fresh weights that `seed` determines, on the CPU. The generators of torch are left as they are.

    Raises:
        UserError: a part of another package, which a specification cannot name.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed every GPU, too
        return build(spec_of(part))
