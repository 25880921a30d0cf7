"""DeeperCluster against NumPy: the clusters, their labels and weights, the turned clips and the two levels of the loss."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from models import model
from torch import Tensor

from vidssl.data.views import SameClip, TwoClips
from vidssl.energy.joint import SiameseJoint
from vidssl.nets.encoders import ClipEncoder
from vidssl.nets.heads import MLPHead, NormHead
from vidssl.nets.kmeans import plus_plus
from vidssl.nets.noise import uniform
from vidssl.objectives.deepercluster import DeeperCluster, rotate, two_levels
from vidssl.types import Batch, Moment, UserError

CLIPS, WIDTH, M, K = 40, 6, 2, 3


def noise(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def objective(**changes: int) -> DeeperCluster:
    torch.manual_seed(0)
    return DeeperCluster(TwoClips(3, 2), **{"clips": CLIPS, "width": WIDTH, "clusters": M * K, "super_clusters": M, "components": 4, **changes})


def energy(head: str = "mlp") -> SiameseJoint:
    torch.manual_seed(1)
    projector = MLPHead(8, 8, WIDTH) if head == "mlp" else NormHead(8, 8, WIDTH)
    return SiameseJoint(16, 4, 4, ClipEncoder(3, 1, 8, 1, 4), projector)


def batch(n: int = 12, seed: int = 0) -> Batch:
    video = torch.rand(n, 8, 1, 16, 16, generator=noise(seed))
    return Batch(video[:, :4], video[:, 4:], torch.randperm(CLIPS, generator=noise(seed + 1))[:n])


def features(seed: int = 3) -> Tensor:
    """Clouds of unequal size, not in line with the axes."""
    middles = 3 * torch.randn(7, WIDTH, generator=noise(seed))
    which = torch.multinomial(torch.arange(1.0, 8), CLIPS, True, generator=noise(seed + 1))
    return middles[which] + torch.randn(CLIPS, WIDTH, generator=noise(seed + 2)) + 1


def clustered(**changes: int) -> DeeperCluster:
    made = objective(**changes)
    made.recluster(features(), torch.arange(CLIPS), noise(9))
    return made


def whitened(x: np.ndarray, components: int) -> np.ndarray:
    """By the singular values, and to length 1."""
    centred = x - x.mean(0)
    _, s, axes = np.linalg.svd(centred, full_matrices=False)
    placed = centred @ axes[:components].T / (s[:components] / np.sqrt(len(x)))
    return placed / np.linalg.norm(placed, axis=1, keepdims=True)


def lloyd(x: np.ndarray, centroids: np.ndarray, iterations: int = 10) -> np.ndarray:
    """Assignments, by all the distances at once."""
    for _ in range(iterations):
        which = ((x[:, None] - centroids[None]) ** 2).sum(2).argmin(1)
        assert len(set(which)) == len(centroids), "an empty cluster: take another seed"
        centroids = np.stack([x[which == k].mean(0) for k in range(len(centroids))])
    return ((x[:, None] - centroids[None]) ** 2).sum(2).argmin(1)


def start(x: np.ndarray, k: int, generator: torch.Generator) -> np.ndarray:
    """Which samples k-means starts at depends on distances alone."""
    return plus_plus(torch.from_numpy(x), k, generator).numpy()


def hierarchy(x: np.ndarray, generator: torch.Generator, groups: np.ndarray | None = None) -> np.ndarray:
    """Super-clusters, unless they are known, and the clusters within each; labels m K + j."""
    x = whitened(x.astype(np.float64), 4)
    groups = lloyd(x, start(x, M, generator)) if groups is None else groups
    labels = np.empty(len(x), np.int64)
    for m in range(M):
        labels[groups == m] = m * K + lloyd(x[groups == m], start(x[groups == m], K, generator))
    return labels


def log_softmax(x: np.ndarray) -> np.ndarray:
    return x - x.max(-1, keepdims=True) - np.log(np.exp(x - x.max(-1, keepdims=True)).sum(-1, keepdims=True))


def test_clusters_within_clusters_are_those_of_numpy() -> None:
    made = clustered()
    expected = hierarchy(features().numpy(), noise(9))
    np.testing.assert_array_equal(made.labels.numpy(), expected)
    counts = np.bincount(expected, minlength=M * K)
    np.testing.assert_allclose(made.weights.numpy(), CLIPS / (M * K * counts), rtol=1e-6)
    x = whitened(features().numpy().astype(np.float64), 4)
    distances = np.linalg.norm([x[expected == j].mean(0) - x[expected == i].mean(0) for i in range(6) for j in range(6)], axis=1)
    np.testing.assert_allclose(torch.cdist(made.centroids, made.centroids).flatten().numpy(), distances, atol=1e-4)  # whatever the signs of the axes


def test_super_clusters_are_found_once_and_sub_clusters_anew() -> None:
    made = clustered()
    before = made.labels.clone()
    made.recluster(features(30), torch.arange(CLIPS), noise(11))
    assert torch.equal(made.labels // K, before // K) and not torch.equal(made.labels, before)
    np.testing.assert_array_equal(made.labels.numpy(), hierarchy(features(30).numpy(), noise(11), before.numpy() // K))
    assert not np.array_equal(hierarchy(features(30).numpy(), noise(11)) // K, before.numpy() // K), "found anew they would be others"


def test_labels_go_by_key() -> None:
    made, order = objective(), torch.randperm(CLIPS, generator=noise(4))
    made.recluster(features()[order], order, noise(9))
    partition = made.labels[:, None] == made.labels[None]
    placed = whitened(features()[order].numpy().astype(np.float64), 4)
    groups = lloyd(placed, start(placed, M, noise(9)))
    assert np.array_equal((made.labels[order] // K).numpy(), groups)
    assert partition.sum() < CLIPS**2 / 2


def test_the_loss_is_that_of_numpy() -> None:
    made, e, b = clustered(), energy().train(), batch()
    with torch.no_grad():
        for p in made.parameters():
            p.normal_(generator=noise(5))  # heads that say something
    out = made.loss(e, b, Moment(generator=noise(6)))
    told = noise(6)
    views = made.views(b, told)
    turns = np.stack([np.floor(4 * uniform((12,), views, told).numpy()) for _ in views]).astype(int)
    assert set(turns.flatten()) == {0, 1, 2, 3}
    terms, weights = [], 1 / (M * K * np.bincount(made.labels.numpy(), minlength=M * K) / CLIPS)
    for view, turn in zip(views.numpy(), turns, strict=True):
        turned = np.stack([np.rot90(clip, t, (-2, -1)) for clip, t in zip(view, turn, strict=True)])
        h = np.maximum(e.embed(torch.from_numpy(turned.copy())).detach().numpy().astype(np.float64), 0)
        for i, key in enumerate(b.key.tolist()):
            label = int(made.labels[key])
            y = turn[i] * M + label // K
            v, w = ((head.weight.detach().numpy(), head.bias.detach().numpy()) for head in (made.upper, made.lower))
            upper = -log_softmax(v[0] @ h[i] + v[1])[y]
            lower = -log_softmax(w[0][y * K : y * K + K] @ h[i] + w[1][y * K : y * K + K])[label % K]
            terms.append((weights[label] * upper, weights[label] * lower))
    upper, lower = np.mean(terms, 0)
    assert float(out.logs["super_class"]) == pytest.approx(upper, rel=1e-5) and float(out.logs["sub_class"]) == pytest.approx(lower, rel=1e-5)
    assert float(out.loss.detach()) == pytest.approx(upper + lower, rel=1e-5)


def test_weights_stand_for_a_sampler_that_is_uniform_over_labels() -> None:
    """The mean over all clips, weighed, is the mean over labels of the mean within each."""
    made = clustered()
    value = torch.rand(CLIPS, generator=noise(8), dtype=torch.float64)
    weighed = (made.weights[made.labels] * value).mean()
    torch.testing.assert_close(weighed, torch.stack([value[made.labels == k].mean() for k in range(M * K)]).mean(), rtol=1e-6, atol=0)


def test_gradients_in_float64() -> None:
    upper, lower = torch.randn(5, 4, generator=noise(), dtype=torch.float64), torch.randn(5, 4, 3, generator=noise(1), dtype=torch.float64)
    group, member, weight = torch.tensor([0, 3, 1, 1, 2]), torch.tensor([2, 0, 1, 2, 0]), torch.rand(5, generator=noise(2), dtype=torch.float64)
    inputs = (upper.requires_grad_(), lower.requires_grad_())
    assert torch.autograd.gradcheck(lambda u, v: sum(two_levels(u, v, group, member, weight)), inputs)
    sum(two_levels(*inputs, group, member, weight)).backward()
    others = torch.ones(5, 4, dtype=torch.bool)
    others[torch.arange(5), group] = False
    assert not lower.grad[others].any() and lower.grad[~others].any(), "only the head of a clip's own super-class learns from it"
    assert torch.equal(upper.grad.sum(1).abs() < 1e-12, torch.ones(5, dtype=torch.bool))


def test_encoder_and_heads_learn_and_buffers_do_not() -> None:
    made, e = clustered(), energy("norm").train()
    with torch.no_grad():
        for p in e.parameters():
            p.add_(0.05 * torch.randn(p.shape, generator=noise(2)))  # blocks begin as the identity
    kept = {k: v.clone() for k, v in made.named_buffers()}
    made.loss(e, batch(), Moment(generator=noise())).loss.backward()
    still = [name for name, p in [*e.named_parameters(), *made.named_parameters()] if p.grad is None or not p.grad.any()]
    assert not still
    assert all(torch.equal(v, kept[k]) for k, v in made.named_buffers())
    assert made.batch is None


def test_heads_start_again_with_the_clusters() -> None:
    made = clustered()
    first = [p.detach().clone() for p in made.parameters()]
    with torch.no_grad():
        for p in made.parameters():
            p.fill_(7.0)
    made.recluster(features(), torch.arange(CLIPS), noise(21))
    assert 0.007 < made.lower.weight.std() < 0.013 and made.lower.weight.abs().max() < 0.1 and not made.lower.bias.any() and not made.upper.bias.any()
    assert not torch.equal(made.upper.weight, first[0])
    made.recluster(features(), torch.arange(CLIPS), noise(21))
    once = made.upper.weight.clone()
    made.recluster(features(), torch.arange(CLIPS), noise(21))
    assert torch.equal(once, made.upper.weight), "the generator alone decides"


def test_rotation_is_that_of_numpy_and_the_same_for_all_frames() -> None:
    clips = torch.rand(8, 3, 2, 5, 5, generator=noise())
    turns = torch.tensor([0, 1, 2, 3, 3, 2, 1, 0])
    expected = [[[np.rot90(plane, t) for plane in frame] for frame in clip] for clip, t in zip(clips.numpy(), turns.tolist(), strict=True)]
    assert np.array_equal(rotate(clips, turns).numpy(), np.array(expected))


def test_clips_of_validation_are_judged_by_the_nearest_cluster() -> None:
    e, b = energy().eval(), batch(CLIPS)
    made = objective(iterations=60, components=3)  # an untrained network tells no more apart
    found = made.features(e, b)
    made.recluster(found, b.key, noise(9))
    judged = made.loss(e, b, Moment(generator=noise(1))).loss
    b.key = b.key.flip(0)
    assert torch.equal(made.loss(e, b, Moment(generator=noise(1))).loss, judged), "keys of another split mean other clips"
    x = whitened(found.numpy().astype(np.float64), 3)
    labels = made.labels[b.key.flip(0)].numpy()
    middles = np.stack([x[labels == k].mean(0) for k in range(M * K)])
    closest = ((x[:, None] - middles[None]) ** 2).sum(2).argmin(1)
    assert (closest == labels).mean() > 0.7, "most clips are nearest to their own cluster; a super-cluster is found before those within it"
    made.labels[b.key] = torch.from_numpy(closest)
    made.weights.fill_(1)
    torch.testing.assert_close(made.loss(e.train(), b, Moment(generator=noise(1))).loss, judged)


def test_features_are_those_of_the_middle_of_the_clip() -> None:
    e, b = energy().eval(), batch()
    clips = torch.cat((b.x, b.y), 1)
    torch.testing.assert_close(objective().features(e, b), e.projector(e.encoder(clips[:, 2:5]).mean((2, 3))).detach())


def test_a_clip_that_was_never_read_counts_nothing() -> None:
    made, e, b = objective(), energy().train(), batch()
    read = torch.arange(CLIPS)[torch.arange(CLIPS) != b.key[0]]
    made.recluster(features()[read], read, noise(9))
    assert made.labels[b.key[0]] == -1
    other = Batch(b.x.clone(), b.y.clone(), b.key)
    other.x[0], other.y[0] = 1 - b.x[0], 0
    assert torch.equal(made.loss(e, b, Moment(generator=noise(1))).loss, made.loss(e, other, Moment(generator=noise(1))).loss)


def test_labels_come_back_from_a_checkpoint() -> None:
    made, again, e, b = clustered(), objective(), energy().train(), batch()
    with pytest.raises(UserError, match="no pseudo-labels yet"):
        again.loss(e, b, Moment())
    again.load_state_dict(objective().state_dict())
    with pytest.raises(UserError, match="no pseudo-labels yet"):
        again.loss(e, b, Moment())
    again.load_state_dict(made.state_dict())
    assert torch.equal(again.loss(e, b, Moment(generator=noise(1))).loss, made.loss(e, b, Moment(generator=noise(1))).loss)
    for one in (made, again):
        one.recluster(features(30), torch.arange(CLIPS), noise(2))
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in made.state_dict().items())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"clusters": 42}, "42 clusters of 40 samples"),
        ({"clusters": 7}, "7 clusters and 2 super-clusters"),
        ({"components": 7}, "7 of 6"),
        ({"every": 0}, "every 0"),
    ],
)
def test_refusals(changes: dict[str, int], words: str) -> None:
    with pytest.raises(UserError, match=words):
        objective(**changes)


def test_a_super_cluster_too_small_is_refused_by_its_numbers() -> None:
    lonely = torch.cat((torch.randn(2, WIDTH, generator=noise()) + 500, torch.randn(CLIPS - 2, WIDTH, generator=noise(1)) - 26))
    with pytest.raises(UserError, match="has 2 clips for 3 sub-clusters"):
        objective(components=1).recluster(lonely, torch.arange(CLIPS), noise(2))


def test_what_embeds_nothing_or_something_else_is_refused() -> None:
    with pytest.raises(UserError, match="PixelEnergy"):
        objective().features(model("none"), batch())
    with pytest.raises(UserError, match="width 5.*outputs of 6"):
        objective(width=5).features(energy(), batch())
    made = DeeperCluster(SameClip(2, None), CLIPS, WIDTH, M * K, M, 4)
    made.recluster(features(), torch.arange(CLIPS), noise())
    with pytest.raises(UserError, match="2 and 3 frames"):
        made.loss(energy(), batch(), Moment())


def test_a_few_steps_lower_the_loss_from_where_heads_that_know_nothing_are() -> None:
    made, e, b = clustered(), energy("norm").train(), batch(CLIPS)
    weights, losses = [*e.parameters(), *made.parameters()], []
    for _ in range(15):
        out = made.loss(e, b, Moment(generator=noise()))
        for p, g in zip(weights, torch.autograd.grad(out.loss, weights, allow_unused=True), strict=True):
            if g is not None:
                p.data -= 0.3 * g
        losses.append(float(out.loss.detach()))
    mean = float(made.weights[made.labels].mean())
    assert mean == pytest.approx(1) and losses[0] == pytest.approx(np.log(8) + np.log(3), rel=0.02)
    assert losses[-1] < losses[0] - 0.1, losses
