"""A video ViT: where its tokens come from, that each keeps its place, and what it refuses."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from vidssl.energy.joint import SiameseJoint
from vidssl.nets.heads import MLPHead
from vidssl.nets.vit import LOUD, TokenBlock, VideoViT, positions, tubes
from vidssl.spec import build, spec_of
from vidssl.types import UserError


def made(depth: int = 2, channels: int = 1, seed: int = 0) -> VideoViT:
    """4 frames of 16 x 16 in 2 x 4 x 4 tokens."""
    torch.manual_seed(seed)
    return VideoViT(frames=4, channels=channels, size=16, width=24, depth=depth, heads=3, patch=4).eval()


def clip(n: int = 3, channels: int = 1) -> Tensor:
    return torch.rand(n, 4, channels, 16, 16, generator=torch.Generator().manual_seed(1))


def test_positions_are_the_formula_of_each_axis() -> None:
    found = positions(3, 4, 5, 16).double()  # 8 pairs: 2 for time, 3 for rows, 3 for columns
    assert found.shape == (60, 16)
    for t, row, column in ((0, 0, 0), (2, 1, 4), (1, 3, 2)):
        told = []
        for place, n in ((t, 2), (row, 3), (column, 3)):
            angles = [place / 10000 ** (i / n) for i in range(n)]
            told += [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
        torch.testing.assert_close(found[(t * 4 + row) * 5 + column], torch.tensor(told, dtype=torch.float64), rtol=0, atol=1e-6)


@pytest.mark.parametrize("dim", [6, 8, 10, 64, 192])
def test_positions_have_the_width_asked_for_and_tell_all_places_apart(dim: int) -> None:
    found = positions(4, 7, 7, dim)
    assert found.shape == (196, dim)
    assert float(torch.cdist(found, found).fill_diagonal_(9).min()) > 1e-3
    torch.testing.assert_close(found.square().sum(1), torch.full((196,), dim / 2))  # sin^2 + cos^2


@pytest.mark.parametrize("dim", [5, 7, 4, 0])
def test_a_width_without_room_for_positions(dim: int) -> None:
    with pytest.raises(UserError, match=rf"even width of at least 6; got {dim}"):
        positions(2, 2, 2, dim)


def test_a_tube_holds_its_pixels_and_no_others() -> None:
    x = torch.arange(2 * 4 * 3 * 8 * 12).view(2, 4, 3, 8, 12)
    found = tubes(x, 2, 4)
    assert found.shape == (2, 2 * 2 * 3, 2 * 3 * 16)
    for t, row, column in ((0, 0, 0), (1, 0, 2), (1, 1, 1)):
        wanted = x[:, 2 * t : 2 * t + 2, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
        assert torch.equal(found[:, (t * 2 + row) * 3 + column], wanted.flatten(1))


def test_shapes_and_the_map_is_the_mean_of_tokens_over_time() -> None:
    encoder, x = made(channels=3), clip(channels=3)
    assert encoder.grid == (2, 4, 4) and (encoder.width, encoder.patch, encoder.tubelet, encoder.size) == (24, 4, 2, 16)
    tokens, features = encoder.tokens(x), encoder(x)
    assert tokens.shape == (3, 32, 24) and features.shape == (3, 24, 4, 4)
    for row, column in ((0, 0), (1, 3), (3, 2)):
        torch.testing.assert_close(features[:, :, row, column], (tokens[:, row * 4 + column] + tokens[:, 16 + row * 4 + column]) / 2)


def test_kept_tokens_without_attention_are_those_of_the_whole_pass() -> None:
    encoder, x = made(depth=0), clip()
    keep = torch.tensor([[0, 5, 31], [7, 2, 30], [16, 15, 1]])
    whole = encoder.tokens(x)
    torch.testing.assert_close(encoder.tokens(x, keep), torch.stack([row[index] for row, index in zip(whole, keep)]))


def test_each_kept_token_has_its_own_position() -> None:
    encoder, grey = made(depth=0), torch.full((2, 4, 1, 16, 16), 0.5)  # all tubes alike: only positions differ
    keep = torch.tensor([[3, 17, 9], [31, 0, 4]])
    told = F.layer_norm(encoder.embed(torch.full((32,), LOUD * 0.5)) + encoder.position, (24,))
    torch.testing.assert_close(encoder.tokens(grey, keep), told[keep])


def test_kept_tokens_see_one_another_and_nothing_else() -> None:
    encoder, x = made(), clip()
    keep = torch.tensor([[0, 5, 31], [7, 2, 30], [16, 15, 1]])
    before, other = encoder.tokens(x, keep), x.clone()
    hidden = torch.ones(3, 32, dtype=torch.bool).scatter_(1, keep, False)
    numbers = torch.arange(32).view(2, 4, 4).repeat_interleave(2, 0).repeat_interleave(4, 1).repeat_interleave(4, 2)[:, None]  # of each pixel's token
    assert torch.equal(tubes(numbers[None], 2, 4)[0, :, 0], torch.arange(32))
    for row in range(3):
        other[row][hidden[row][numbers]] = 0.123
    assert not torch.equal(other, x)
    assert torch.equal(encoder.tokens(other, keep), before)
    changed = x.clone()
    changed[:, 0, :, 0, 0] += 0.5  # token 0, which only the first clip keeps
    after = encoder.tokens(changed, keep)
    assert torch.equal(after[1:], before[1:]) and bool((after[0] != before[0]).any(1).all())


def test_the_order_of_kept_tokens_is_the_order_of_the_output() -> None:
    encoder, x = made(), clip()
    keep = torch.rand(3, 32, generator=torch.Generator().manual_seed(2)).argsort(1)
    torch.testing.assert_close(encoder.tokens(x, keep), encoder.tokens(x).gather(1, keep[..., None].expand(-1, -1, 24)), rtol=1e-4, atol=1e-5)


def test_a_block_is_attention_written_out() -> None:
    torch.manual_seed(0)
    block, h = TokenBlock(12, 3).double(), torch.randn(2, 5, 12, dtype=torch.float64)
    normed = F.layer_norm(h, (12,))
    q, k, v = (normed @ block.to_qkv.weight.T).split(12, 2)
    mixed = torch.zeros_like(h)
    for head in range(3):
        part = slice(4 * head, 4 * head + 4)
        share = (q[..., part] @ k[..., part].transpose(1, 2) / 2).softmax(2)
        mixed[..., part] = share @ v[..., part]
    told = h + mixed @ block.out.weight.T
    told = told + F.gelu(F.layer_norm(told, (12,)) @ block.up.weight.T) @ block.down.weight.T
    torch.testing.assert_close(block(h), told)


def test_neighbours_in_the_batch_do_not_matter_and_gradients_reach_all() -> None:
    encoder, x = made(), clip()
    torch.testing.assert_close(encoder(x)[1:2], encoder(x[1:2]), rtol=1e-4, atol=1e-5)
    encoder(x).square().mean().backward()
    assert all(p.grad is not None and bool((p.grad != 0).any()) for p in encoder.parameters())


def test_positions_are_made_again_and_not_saved() -> None:
    encoder, x = made(), clip()
    assert not [name for name in encoder.state_dict() if "position" in name]
    again = build(spec_of(encoder)).eval()
    again.load_state_dict(encoder.state_dict())
    assert torch.equal(again(x), encoder(x))


def test_it_trains_as_the_encoder_of_a_joint_embedding() -> None:
    energy = SiameseJoint(16, 4, 4, made(), MLPHead(24, 16, 8))
    assert energy.embed(clip()).shape == (3, 8) and energy.encode(clip()).shape == (3, 24, 4, 4)


@pytest.mark.parametrize(
    ("changes", "match"),
    [({"frames": 3}, "3 frames are no multiple of 2"), ({"size": 18}, "18 pixels are no multiple of 4"), ({"patch": 32}, "16 pixels are no multiple of 32"),
     ({"heads": 5}, "width 24 and 5 heads"), ({"width": 9, "heads": 3}, "even width of at least 6; got 9"), ({"tubelet": 0}, "multiple of 0"),
     ({"heads": 0}, "0 heads")],
)  # fmt: skip
def test_what_cannot_be_built(changes: dict, match: str) -> None:
    with pytest.raises(UserError, match=match):
        VideoViT(**{"frames": 4, "channels": 1, "size": 16, "width": 24, "depth": 1, "heads": 3, "patch": 4, **changes})


def test_clips_of_another_kind_are_refused() -> None:
    encoder = made()
    with pytest.raises(UserError, match=r"positions of this encoder are those of 16 x 16 pixels; got 32 x 16"):
        encoder(torch.rand(1, 4, 1, 32, 16))
    with pytest.raises(UserError, match=r"takes \[B, 4, 1, H, W\]"):
        encoder.tokens(torch.rand(1, 6, 1, 16, 16))
    for keep in (torch.zeros(2, 3, dtype=torch.long), torch.zeros(3, dtype=torch.long)):
        with pytest.raises(UserError, match=r"kept tokens are \[B, K\]; got .* for 3 clips"):
            encoder.tokens(clip(), keep)
