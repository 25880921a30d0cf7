"""torchvision's networks as encoders: the features are those that torchvision's own class would pool, and what a network cannot take is refused."""

from __future__ import annotations

import threading
from functools import partial

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models import video
from torchvision.models.video.mvit import MSBlockConfig, MViT

from vidssl.energy.joint import MomentumJoint, SiameseJoint
from vidssl.nets import torchvision_encoder
from vidssl.nets.heads import MLPHead
from vidssl.nets.torchvision_encoder import KINDS, JointBatchNorm, TorchvisionEncoder
from vidssl.spec import build, spec_of
from vidssl.types import Moment, UserError

SMALL = ["r3d_18", "mc3_18", "r2plus1d_18", "s3d", "swin3d_t"]
MEAN, STD = [0.4, 0.3, 0.5], [0.2, 0.25, 0.3]


def made(network: str = "s3d", frames: int = 5, channels: int = 3, size: int = 32, **more) -> TorchvisionEncoder:
    torch.manual_seed(0)
    return TorchvisionEncoder(network, frames, channels, size, **more).eval()


def clips(n: int = 2, frames: int = 5, channels: int = 3, size: int = 32) -> Tensor:
    return torch.rand(n, frames, channels, size, size, generator=torch.Generator().manual_seed(1))


def pooled(net: nn.Module, x: Tensor, layer: nn.Module) -> Tensor:
    """What comes into `layer` of torchvision's own network; s3d cannot pool a small map, but it has it by then."""
    caught = []
    with layer.register_forward_pre_hook(lambda _, given: caught.append(given[0])):
        try:
            net(x)
        except RuntimeError as error:
            assert "kernel size" in str(error) or "too small" in str(error)
    return caught[0]


@pytest.mark.parametrize("network", SMALL)
def test_features_are_what_torchvisions_own_class_would_pool(network: str) -> None:
    encoder, x = made(network), clips()
    net = getattr(video, network)().eval()
    net.load_state_dict(encoder.torchvision_state(), strict=True)
    with torch.inference_mode():
        features, told = encoder(x), pooled(net, x.transpose(1, 2), net.avgpool).mean(2)
    assert features.shape == (2, encoder.width, 32 // encoder.patch, 32 // encoder.patch)
    torch.testing.assert_close(features, told, rtol=1e-5, atol=1e-5)
    assert float(features.std()) > 0.01  # untrained ones, too, tell clips apart
    classifier = dict(net.named_modules())[KINDS[network].classifier]
    assert not any(bool(p.any()) for p in classifier.parameters()) and encoder.torchvision_state().keys() == net.state_dict().keys()


def test_a_small_mvit_gives_the_tokens_before_its_classifier() -> None:
    torch.manual_seed(0)
    blocks = [MSBlockConfig(1, 8, 8, [3, 3, 3], [3, 3, 3], [1, 1, 1], [1, 2, 2]), MSBlockConfig(2, 8, 16, [3, 3, 3], [3, 3, 3], [1, 2, 2], [1, 1, 1])]
    net = MViT((32, 32), 4, blocks, residual_pool=True, residual_with_cls_embed=False, rel_pos_embed=True, proj_after_attn=True).eval()
    caught, x = [], clips(frames=4).transpose(1, 2)
    with torch.inference_mode():
        with net.norm.register_forward_hook(lambda _, given, out: caught.append(out)):
            net(x)
        features = KINDS["mvit_v2_s"].features(net, x)
    assert features.shape == (2, 16, 2, 4, 4)
    for t, row, column in ((0, 0, 0), (1, 2, 3), (1, 3, 0)):
        assert torch.equal(features[:, :, t, row, column], caught[0][:, 1 + (t * 4 + row) * 4 + column])


@pytest.mark.slow
def test_mvit_takes_15_or_16_frames_of_224_and_nothing_else() -> None:
    encoder, x = made("mvit_v2_s", 16, 1, 224), clips(1, 16, 1, 224)
    net = video.mvit_v2_s().eval()
    net.load_state_dict(encoder.torchvision_state(), strict=True)
    caught = []
    with torch.inference_mode(), net.norm.register_forward_hook(lambda _, given, out: caught.append(out)):
        net(x.expand(-1, -1, 3, -1, -1).transpose(1, 2))
        features = encoder(x)
    assert features.shape == (1, 768, 7, 7)
    told = caught[0][:, 1:].view(1, 8, 7, 7, 768).mean(1).permute(0, 3, 1, 2)
    torch.testing.assert_close(features, told, rtol=1e-5, atol=1e-5)
    with pytest.raises(UserError, match="mvit_v2_s takes 224 pixels along a side; got 256"):
        encoder(clips(1, 16, 1, 256))


def test_what_is_refused_is_what_torchvision_cannot_do() -> None:
    net = video.s3d().eval()
    for frames, size in ((4, 32), (5, 16)):
        with pytest.raises(RuntimeError, match="too small"):
            net.features(torch.rand(1, 3, frames, size, size))
    assert net.features(torch.rand(1, 3, 5, 32, 32)).shape == (1, 1024, 1, 1, 1)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [(("r3d", 4, 3, 32), "here are r3d_18, .*; got 'r3d'"), (("r3d_18", 4, 2, 32), "3 channels, or 1 that is repeated; got 2"),
     (("r3d_18", 4, 3, 40), "r3d_18 takes sizes that are multiples of 16; got 40"), (("r3d_18", 0, 3, 32), "r3d_18 takes 1 or more frames; got 0"),
     (("s3d", 4, 3, 32), "s3d takes 5 or more frames; got 4"), (("s3d", 8, 3, 16), "s3d takes 32 or more pixels along a side; got 16"),
     (("mvit_v2_s", 8, 3, 224), "mvit_v2_s takes 15 to 16 frames; got 8"), (("mvit_v2_s", 16, 3, 112), "mvit_v2_s takes 224 pixels along a side; got 112"),
     (("swin3d_t", 4, 3, 48), "swin3d_t takes sizes that are multiples of 32; got 48")],
)  # fmt: skip
def test_networks_that_cannot_take_the_clip(arguments: tuple, match: str) -> None:
    with pytest.raises(UserError, match=match):
        TorchvisionEncoder(*arguments)


def test_another_clip_than_it_was_made_for() -> None:
    encoder = made("mc3_18", channels=1)
    assert encoder(clips(channels=1, size=48)).shape == (2, 512, 3, 3)  # convolutions take any size
    for other in (clips(channels=3), clips(frames=4, channels=1), clips(channels=1, size=40)):
        with pytest.raises(UserError, match=r"takes \[B, 5, 1, H, W\] with H and W multiples of 16; got"):
            encoder(other)


def test_grey_is_repeated_and_nothing_is_scaled_unless_asked_for() -> None:
    grey, colour, scaled = made(channels=1), made(), made(mean=MEAN, std=STD)
    x = clips(channels=1)
    with torch.inference_mode():
        assert torch.equal(grey(x), colour(x.expand(-1, -1, 3, -1, -1)))
        by_hand = (clips() - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
        assert torch.equal(scaled(clips()), colour(by_hand)) and not torch.allclose(scaled(clips()), colour(clips()))
    assert grey.state_dict().keys() == scaled.state_dict().keys()  # mean and std are arguments, and travel with them
    assert spec_of(scaled)["init_args"]["mean"] == MEAN


def test_no_chance_in_training_and_statistics_that_keep_up() -> None:
    encoder, x = made("swin3d_t", 2).train(), clips(frames=2)
    assert torch.equal(encoder(x), encoder(x))
    encoder, caught = made().train(), []
    norm = encoder.network.features[0][0][1]
    with norm.register_forward_pre_hook(lambda _, given: caught.append(given[0].mean((0, 2, 3, 4)))):
        for _ in range(2):
            encoder(clips())
    torch.testing.assert_close(norm.running_mean, 0.1 * caught[1] + 0.9 * 0.1 * caught[0])


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize("classifier", [True, False])
def test_weights_of_a_file_are_those_of_the_model_without_it(tmp_path, suffix: str, classifier: bool) -> None:
    torch.manual_seed(5)
    net = video.s3d().eval()
    path = tmp_path / f"s3d.{suffix}"
    tensors = {k: v for k, v in net.state_dict().items() if classifier or not k.startswith("classifier")}
    save_file(tensors, path) if suffix == "safetensors" else torch.save(tensors, path)
    encoder, x = made(weights=str(path), mean=MEAN, std=STD), clips()
    told = net.features(((x - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]).transpose(1, 2)).mean(2)
    torch.testing.assert_close(encoder(x) * 1e7, told * 1e7, rtol=1e-4, atol=1e-4)
    path.unlink()
    again = build(spec_of(encoder)).eval()  # a card names no file
    again.load_state_dict(encoder.state_dict())
    assert torch.equal(again(x), encoder(x))


def test_weights_that_do_not_fit(tmp_path) -> None:
    mc3, path = video.mc3_18().state_dict(), tmp_path / "weights.pth"
    told = partial(TorchvisionEncoder, "r3d_18", 4, 3, 32, str(path), MEAN, STD)
    with pytest.raises(UserError, match=r"there is no '.*weights\.pth'"):
        told()
    torch.save(mc3, path)
    with pytest.raises(UserError, match=r"'layer2\.0\.conv1\.0\.weight' has shape \[128, 64, 3, 3, 3\] in r3d_18 and \[128, 64, 1, 3, 3\] in '.*weights\.pth'"):
        told()
    torch.save({f"module.{k}": v for k, v in mc3.items()}, path)
    with pytest.raises(UserError, match=r"has 122 tensors and r3d_18 120; .*: use weights of r3d_18"):
        told()
    torch.save({"state_dict": mc3}, path)
    with pytest.raises(UserError, match="holds something else: save the state_dict alone"):
        told()
    torch.save({"net": nn.Linear(1, 1)}, path)
    with pytest.raises(UserError, match="cannot be read as one"):
        told()
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match="cannot be read as one"):
        told()


def test_weights_come_with_their_mean_and_std() -> None:
    with pytest.raises(UserError, match=r"give both; torchvision's own of s3d: mean \[0\.43216, 0\.394666, 0\.37645\], std \[0\.22803"):
        TorchvisionEncoder("s3d", 5, 3, 32, "s3d.pth", MEAN)
    for mean, std in (([0.5], STD), (MEAN, [0.2, 0.0, 0.2]), ([], STD)):
        with pytest.raises(UserError, match="3 numbers each, std above 0"):
            TorchvisionEncoder("s3d", 5, 3, 32, None, mean, std)


def test_it_is_the_encoder_of_a_joint_embedding() -> None:
    encoder, x = made("mc3_18", channels=1), clips(channels=1)
    with torch.no_grad():
        told = encoder(x)
        energy = MomentumJoint(32, 5, 6, encoder, MLPHead(512, 16, 8)).eval()
        torch.testing.assert_close(energy.encode(x), told, rtol=1e-5, atol=1e-5)
    weight = energy.encoder.network.stem[0].weight
    assert weight.is_contiguous(memory_format=torch.channels_last_3d) and energy.slow_encoder.network.stem[0].weight is not weight
    energy.train().advance(Moment())
    energy.embed(x).square().mean().backward()
    assert all(p.grad is not None and p.grad.shape == p.shape for p in encoder.parameters())
    assert energy.double().encode(x.double()).dtype == torch.float64


def test_a_clip_too_many_small_for_batch_statistics() -> None:
    energy = SiameseJoint(32, 5, 5, made().train(), MLPHead(1024, 16, 8))
    with pytest.raises(UserError, match="batch statistics need at least 2 values; got 1: raise batch_size"):
        energy.train().embed(clips(1))


class Ranks:
    """Two ranks as two threads of one process, so that one graph holds both; what each gathers is what both have."""

    def __init__(self) -> None:
        self.barrier, self.rows = threading.Barrier(2), {}

    def gather(self, rows: Tensor) -> Tensor:
        self.rows[threading.current_thread().name] = rows
        self.barrier.wait()
        joint = torch.cat([self.rows["0"], self.rows["1"]])
        self.barrier.wait()
        return joint

    def run(self, norms: list[nn.Module], parts: list[Tensor]) -> list[Tensor]:
        out: dict[str, Tensor] = {}
        threads = [threading.Thread(target=lambda r=r: out.update({str(r): norms[r](parts[r])}), name=str(r)) for r in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return [out["0"], out["1"]]


def test_statistics_of_two_processes_are_those_of_the_joint_batch(monkeypatch) -> None:
    torch.manual_seed(0)
    h = torch.randn(6, 3, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    weights = torch.randn_like(h)
    one = JointBatchNorm(3, 1e-3).double()
    with torch.no_grad():
        one.weight.copy_(torch.rand(3)), one.bias.copy_(torch.rand(3))
    two = [JointBatchNorm(3, 1e-3).double() for _ in range(2)]
    for norm in two:
        norm.load_state_dict(one.state_dict())
    told = nn.functional.batch_norm(h, None, None, one.weight, one.bias, training=True, eps=1e-3)
    joint = one(h)
    torch.testing.assert_close(joint, told)
    (wanted,) = torch.autograd.grad((joint * weights).sum(), h)
    ranks = Ranks()
    monkeypatch.setattr(torchvision_encoder, "world", lambda: 2)
    monkeypatch.setattr(torchvision_encoder, "gather", ranks.gather)
    parts = [h[0::2], h[1::2]]
    found = ranks.run(two, parts)
    torch.testing.assert_close(torch.stack(found, 1).flatten(0, 1), joint)
    (given,) = torch.autograd.grad((torch.stack(found, 1).flatten(0, 1) * weights).sum(), h)
    torch.testing.assert_close(given, wanted)
    for norm in two:
        for name, value in one.state_dict().items():
            torch.testing.assert_close(norm.state_dict()[name], value)
