"""Decoders by their formulas: fetching is shifting, and nothing appears that was not in the last frame."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vidssl.nets.decoders import CopyDecoder, FetchDecoder, MoveDecoder, PaintDecoder, fetch, summed
from vidssl.types import UserError


def flow(right: float, down: float, image: torch.Tensor) -> torch.Tensor:
    """The same flow at every pixel."""
    return torch.tensor([right, down], dtype=image.dtype)[None, :, None, None].expand(len(image), 2, *image.shape[-2:])


@pytest.mark.parametrize(("right", "down"), [(0, 0), (1, 0), (0, 2), (-3, 1)])
def test_whole_flows_shift_and_repeat_the_border(right: int, down: int) -> None:
    image = torch.rand(2, 3, 6, 9, dtype=torch.float64)
    rows = (torch.arange(6) + down).clamp(0, 5)
    columns = (torch.arange(9) + right).clamp(0, 8)
    torch.testing.assert_close(fetch(image, flow(right, down, image)), image[:, :, rows][:, :, :, columns])


def test_fractions_of_a_pixel_are_bilinear() -> None:
    image = torch.rand(1, 1, 5, 5, dtype=torch.float64)
    made = fetch(image, flow(0.25, 0.5, image))[0, 0, 1, 2]
    a, b, c, d = image[0, 0, 1, 2], image[0, 0, 1, 3], image[0, 0, 2, 2], image[0, 0, 2, 3]
    torch.testing.assert_close(made, 0.5 * (0.75 * a + 0.25 * b) + 0.5 * (0.75 * c + 0.25 * d))


def test_gradient_of_fetching() -> None:
    torch.manual_seed(0)
    image = torch.rand(1, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    where = (0.8 * torch.rand(1, 2, 4, 4, dtype=torch.float64) + 0.1).requires_grad_()  # kinks lie at whole pixels
    assert torch.autograd.gradcheck(fetch, (image, where))


def test_places_are_exact_in_half_precision() -> None:
    image = torch.rand(1, 1, 64, 64)
    torch.testing.assert_close(fetch(image.bfloat16(), flow(7, 0, image).bfloat16())[..., :50], image.bfloat16().float()[..., 7:57])


def fetching(seed: int = 0) -> tuple[FetchDecoder, torch.Tensor, torch.Tensor]:
    """A shaken decoder, its features and the last known frame."""
    torch.manual_seed(seed)
    decoder = FetchDecoder(4, 3, 8, frame_width=8)
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return decoder, torch.randn(2, 8, 4, 4), torch.rand(2, 3, 16, 16)


def test_fetched_frames_follow_the_formula_and_every_weight_learns() -> None:
    decoder, features, last = fetching()
    made = decoder(features, last)
    weights, flows = decoder.plan(features)
    torch.testing.assert_close(weights.sum(2), torch.ones(2, 4, 16, 16))
    for t in range(4):
        expected = weights[:, t, :1] * last
        for k in range(2):
            expected = expected + weights[:, t, k + 1, None] * fetch(last, flows[:, t, k])
        torch.testing.assert_close(made[:, t], expected)
    made.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in decoder.parameters())


def test_no_flow_is_the_copied_frame_and_a_flat_frame_stays_flat() -> None:
    decoder, features, last = fetching()
    flat = torch.tensor([0.1, 0.5, 0.9])[None, :, None, None].expand(2, 3, 16, 16)
    torch.testing.assert_close(decoder(features, flat), flat[:, None].expand(2, 4, 3, 16, 16))
    with torch.no_grad():
        for parameter in decoder.flow.parameters():
            parameter.zero_()
    torch.testing.assert_close(decoder(features, last), last[:, None].expand(2, 4, 3, 16, 16))


def test_copy_is_a_mixture_of_the_last_frame_and_paint() -> None:
    torch.manual_seed(0)
    decoder, last, features = CopyDecoder(4, 3, 8, frame_width=8), torch.rand(2, 3, 16, 16), torch.randn(2, 8, 4, 4)
    made = torch.nn.functional.pixel_shuffle(decoder.paint(decoder.each(features)), 4).unflatten(0, (2, 4))
    paint, mask = made[:, :, :3], made[:, :, 3:].sigmoid()
    torch.testing.assert_close(decoder(features, last), mask * last[:, None] + (1 - mask) * paint)


def test_paint_knows_nothing_of_the_last_frame_and_each_place_paints_its_own_patch() -> None:
    torch.manual_seed(0)
    decoder, features = PaintDecoder(4, 3, 8, frame_width=8), torch.randn(2, 8, 6, 6)
    made = decoder(features, torch.rand(2, 3, 24, 24))
    assert made.shape == (2, 4, 3, 24, 24)
    assert torch.equal(made, decoder(features, torch.zeros(2, 3, 24, 24)))
    # two 3x3 convolutions: a place reaches two places, so what is three away does not move it but through the norm, which is taken out here
    decoder.each.mix[0] = torch.nn.Identity()
    moved = features.clone()
    moved[:, :, 0, 0] += 1.0
    change = (decoder(moved, made[:, 0]) - decoder(features, made[:, 0])).abs().sum((0, 1, 2))
    assert change[:4, :4].min() > 0 and change[12:].max() == 0 and change[:, 12:].max() == 0


def moving(dtype: torch.dtype = torch.float64) -> tuple[MoveDecoder, torch.Tensor, torch.Tensor]:
    """A shaken decoder of two parts, its features and the last known frame."""
    torch.manual_seed(0)
    decoder = MoveDecoder(3, 2, 8, size=8, patch=4, frame_width=8, parts=2, reach=2).to(dtype)
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return decoder, torch.randn(2, 8, 2, 2, dtype=dtype), torch.rand(2, 2, 8, 8, dtype=dtype)


def shifted(frame: torch.Tensor, down: int, right: int) -> torch.Tensor:
    """Moved by whole pixels; black comes in."""
    room = torch.nn.functional.pad(frame, (20, 20, 20, 20))
    height, width = frame.shape[-2:]
    return room[..., 20 - down : 20 - down + height, 20 - right : 20 - right + width]


def test_steps_add_up_as_their_distributions_are_convolved() -> None:
    steps = torch.randn(2, 4, 3, 5, dtype=torch.float64).softmax(-1)
    found = summed(steps)
    assert found.shape == (2, 4, 3, 17)
    for b in range(2):
        for k in range(3):
            expected = np.ones(1)
            for t in range(4):
                expected = np.convolve(expected, steps[b, t, k].numpy())
                room = np.pad(expected, (17 - len(expected)) // 2)
                np.testing.assert_allclose(found[b, t, k].numpy(), room, atol=1e-14)
    assert summed(steps.bfloat16()).dtype is torch.float32
    assert torch.autograd.gradcheck(lambda logits: summed(logits.softmax(-1)), torch.randn(1, 3, 2, 3, dtype=torch.float64, requires_grad=True))


def test_moved_frames_follow_the_formula_and_every_weight_learns() -> None:
    decoder, features, last = moving()
    made = decoder(features, last)
    parts, steps = decoder.plan(features)
    torch.testing.assert_close(parts.sum(1), torch.ones(2, 8, 8, dtype=torch.float64))
    moves = summed(steps)
    for t in range(3):
        expected = parts[:, :1] * last
        for k in range(2):
            for down in range(-6, 7):
                for right in range(-6, 7):
                    p = (moves[:, t, k, 0, down + 6] * moves[:, t, k, 1, right + 6])[:, None, None, None]
                    expected = expected + p * shifted(parts[:, k + 1, None] * last, down, right)
        torch.testing.assert_close(made[:, t], expected)
    made.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in decoder.parameters())


def test_a_certain_step_is_taken_again_in_each_frame_and_nothing_is_blurred() -> None:
    decoder = MoveDecoder(3, 1, 8, size=12, patch=4, frame_width=8, reach=2)
    with torch.no_grad():
        for layer in (decoder.part, decoder.step):
            layer.weight.zero_(), layer.bias.zero_()
        decoder.part.bias.view(2, 16)[1] = 60.0  # all of it moves
        decoder.step.bias.view(2, 5)[0, 3] = 60.0  # one down
        decoder.step.bias.view(2, 5)[1, 0] = 60.0  # two to the left
    last = torch.rand(2, 1, 12, 12)
    made = decoder(torch.randn(2, 8, 3, 3), last)
    for t in range(3):
        torch.testing.assert_close(made[:, t], shifted(last, t + 1, -2 * (t + 1)), atol=1e-5, rtol=0)


def test_moving_in_half_precision_is_close_and_patches_are_whole() -> None:
    decoder, features, last = moving(torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = decoder(features, last)
    torch.testing.assert_close(half.float(), decoder(features, last), atol=0.03, rtol=0)
    with pytest.raises(UserError, match="frames are whole patches; got size 30 and patch 4"):
        MoveDecoder(3, 1, 8, size=30)
