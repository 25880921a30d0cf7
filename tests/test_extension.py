"""A new limiter is one Python file and one YAML; nothing of the project changes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
import yaml

from vidssl import cli
from vidssl.house import find_config

TOY = '''
"""z is the sign of eight numbers: eight bits, drawn evenly."""

import torch

from vidssl.latents.base import Candidates, Code, Latent
from vidssl.nets.blocks import MapHead


class Signs(Latent):
    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        self.slots, self.dim, self.capacity_bits = 1, dim, float(dim)
        self.head = MapHead(2 * width, dim)

    def infer(self, context, target, generator=None):
        soft = torch.tanh(self.head(torch.cat((context, target), 1)))[:, None]
        z = soft + (soft.sign() - soft).detach()
        return Code(z, torch.full((len(z),), float(self.dim)), torch.zeros(len(z)))

    def prior(self, context, n, generator=None):
        return torch.randint(2, (n, len(context), 1, self.dim), generator=generator).to(context) * 2 - 1

    def candidates(self, context, target):
        z = self.infer(context, target).z[None]
        return Candidates(z, torch.zeros(1, z.shape[1]))

    def posterior(self, context, target):
        return None
'''


def test_a_limiter_from_outside_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "toy_limiter.py").write_text(TOY)
    recipe = yaml.safe_load(find_config("fork-vq").read_text())
    energy = recipe["model"]["energy"]["init_args"]
    energy["latent"] = {"class_path": "toy_limiter.Signs", "init_args": {"width": energy["encoder"]["init_args"]["width"], "dim": 8}}
    energy["predictor"]["init_args"]["latent"] = 8
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump(recipe))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    line = ["fit", "--config", "toy.yaml", "--trainer.max_steps=2", "--data.train_clips=8", "--data.val_clips=2", "--data.batch_size=2"]
    line += ["--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu"]
    assert cli.main(line) == 2, "a class from elsewhere is refused unless it is allowed"
    assert cli.main([*line, "--allow_class_path", "toy_limiter"]) == 0
    saved = torch.load(tmp_path / "runs" / "toy" / "version_0" / "checkpoints" / "last.ckpt", weights_only=True)
    assert any("latent.head" in name for name in saved["state_dict"])
    sys.modules.pop("toy_limiter")
