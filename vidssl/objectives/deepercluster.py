"""DeeperCluster: predict how a clip was turned, and in which cluster of all clips the network itself has put it.

Two levels (Caron et al. 2019, "Unsupervised Pre-Training of Image Features on Non-Curated Data", section 4.2, eq. 5): l(V h, y) + l(W_y h, z), with
cross-entropies l and h = ReLU(embedding). The super-class y is a rotation by 0, 90, 180 or 270 degrees times one of M super-clusters, the sub-class z one
of the k clusters within that super-cluster, and each super-class has a head W_y of its own. Clusters are found by k-means among features that are whitened
and brought to length 1: super-clusters once, the sub-clusters in each anew every so many steps, after which V and W start again, since the numbers of
clusters mean something else. Whole clips are turned, all frames alike.

The paper draws clips so that all pseudo-labels are equally frequent, or else to say "the largest cluster" of every clip is a way out (Caron et al. 2018,
"Deep Clustering", section 3.3). Here the order of clips is the data's, and weights stand for that sampler: a clip from a cluster of c among N clips counts
N / (M k c) times. The expected loss is the same, its variance is larger where a cluster is small.

Shapes: views ``[V, B, T, C, H, W]``, each turned by a draw of its own; labels ``[N]`` by the clips' keys. Failure mode: clusters of what an untrained
network sees, such as where things are, which training then confirms.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidssl.data.views import Views
from vidssl.energy.base import Energy
from vidssl.energy.joint import JointEnergy
from vidssl.nets.kmeans import Clusters, enough, kmeans, nearest, pca, plus_plus
from vidssl.nets.noise import uniform
from vidssl.objectives.base import Reclustered
from vidssl.objectives.joint import JointObjective
from vidssl.types import Batch, Moment, StepOutput, UserError

ROTATIONS = 4
WHITEN = 0.5


def rotate(clips: Tensor, turns: Tensor) -> Tensor:
    """Square clips ``[R, T, C, H, H]``, each turned anticlockwise by its number of quarter turns, ``turns [R]`` from 0 to 3."""
    turns = turns[:, None, None, None, None]
    clips = torch.where(turns % 2 == 1, clips.transpose(-1, -2), clips)
    clips = torch.where((turns == 1) | (turns == 2), clips.flip(-2), clips)
    return torch.where(turns >= 2, clips.flip(-1), clips)


def two_levels(upper: Tensor, lower: Tensor, group: Tensor, member: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Both terms of eq. 5: weighted means of the cross-entropies of super-classes, and of sub-classes by the head of the true super-class.

    Shapes: logits ``upper [R, S]`` and ``lower [R, S, k]``; labels ``group [R]`` and ``member [R]``; ``weight [R]``.
    """
    own = lower[torch.arange(len(lower), device=lower.device), group]
    terms = F.cross_entropy(upper, group, reduction="none"), F.cross_entropy(own, member, reduction="none")
    return (weight * terms[0]).mean(), (weight * terms[1]).mean()


class DeeperCluster(JointObjective, Reclustered):
    """:func:`two_levels` on labels that :meth:`recluster` finds; wants a joint embedding, whose predictor it leaves alone.

    Clips that were not clustered, those of validation, are judged by the clusters whose centroids they are nearest to, and all count alike.

    Args:
        views: of each clip; each is one sample.
        clips: training clips there are. width: of the embedding.
        clusters: in all, M k. super_clusters: M.
        components: principal ones that are whitened and clustered.
        iterations: of k-means. every: steps between two clusterings.

    Raises:
        UserError: more clusters than clips, clusters that super-clusters cannot share equally, or more components than the embedding has.
    """

    def __init__(
        self,
        views: Views,
        clips: int,
        width: int,
        clusters: int,
        super_clusters: int = 2,
        components: int = 32,
        iterations: int = 10,
        every: int = 200,
    ) -> None:
        super().__init__(views)
        enough(clips, clusters)
        if super_clusters < 1 or clusters % super_clusters:
            raise UserError(f"super-clusters hold equally many clusters; got {clusters} clusters and {super_clusters} super-clusters: change one of them")
        if not 1 <= components <= width:
            raise UserError(f"components are at least 1 and at most the width of the embedding; got {components} of {width}: lower components")
        if every < 1 or iterations < 1:
            raise UserError(f"clusters are found every 1 or more steps in 1 or more iterations; got every {every} and iterations {iterations}")
        self.clips, self.every, self.iterations = clips, every, iterations
        self.super_clusters, self.members = super_clusters, clusters // super_clusters
        self.upper = nn.Linear(width, ROTATIONS * super_clusters)
        self.lower = nn.Linear(width, ROTATIONS * clusters)  # the sub-class heads of all super-classes, side by side
        self.register_buffer("labels", torch.full((clips,), -1))  # super-cluster times k plus sub-cluster; -1 for a clip never seen
        self.register_buffer("weights", torch.ones(clusters))
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("basis", torch.zeros(width, components))
        self.register_buffer("centroids", torch.zeros(clusters, components))
        self.clustered = False  # known to the host, so that a step can ask
        self.register_load_state_dict_post_hook(_remember)
        self.batch: Batch | None = None

    @torch.no_grad()
    def features(self, energy: Energy, batch: Batch) -> Tensor:
        """The embedding of the frames in the middle of each clip, ``[B, width]``.

        Raises:
            UserError: no joint embedding, or one of another width.
        """
        if not isinstance(energy, JointEnergy) or energy.projector.outputs != self.lower.in_features:
            found = f"outputs of {energy.projector.outputs}" if isinstance(energy, JointEnergy) else type(energy).__name__
            raise UserError(f"DeeperCluster clusters joint embeddings of width {self.lower.in_features}; got {found}: change the energy or the width")
        clips, frames = torch.cat((batch.x, batch.y), 1), energy.encoder.frames
        first = (clips.shape[1] - frames) // 2
        return energy.embed(clips[:, first : first + frames])

    @torch.no_grad()
    def recluster(self, features: Tensor, keys: Tensor, generator: torch.Generator) -> None:
        """Super-clusters the first time, sub-clusters and new heads every time.

        Raises:
            UserError: fewer clips in a super-cluster than sub-clusters it is to have.
        """
        mean, basis = pca(features, self.basis.shape[1], WHITEN)
        self.mean.copy_(mean), self.basis.copy_(basis)
        places = self._places(features)
        if not self.clustered:
            groups = self._cluster(places, self.super_clusters, generator).assignments
        else:
            groups = self.labels[keys].div(self.members, rounding_mode="floor")
        for group in range(self.super_clusters):
            rows = (groups == group).nonzero().flatten()
            if len(rows) < self.members:
                raise UserError(
                    f"a super-cluster has as many clips as sub-clusters or more; one of {self.super_clusters} has {len(rows)} clips "
                    f"for {self.members} sub-clusters: lower clusters or super_clusters"
                )
            found, first = self._cluster(places[rows], self.members, generator), group * self.members
            self.labels[keys[rows]] = first + found.assignments
            self.centroids[first : first + self.members] = found.centroids
        known = self.labels[self.labels >= 0]
        self.weights.copy_(len(known) / (len(self.centroids) * torch.bincount(known, minlength=len(self.centroids))))
        for head in (self.upper, self.lower):
            nn.init.normal_(head.weight, std=0.01, generator=generator)
            nn.init.zeros_(head.bias)
        self.clustered = True

    def loss(self, energy: Energy, batch: Batch, moment: Moment) -> StepOutput:
        """One step's loss.

        Raises:
            UserError: an energy, views or a batch that do not fit, or no clusters yet.
        """
        if not self.clustered:
            raise UserError("DeeperCluster has no pseudo-labels yet, since nothing has clustered the training clips: train with vidssl fit, or call recluster first")
        self.batch = batch  # labels go by the clips, and `compare` sees nothing but their views
        out = super().loss(energy, batch, moment)
        self.batch = None
        return out

    def compare(self, energy: JointEnergy, views: Tensor, moment: Moment) -> StepOutput:
        """The loss of views ``[V, B, T, C, H, W]``."""
        assert self.batch is not None, "loss keeps the batch"
        label, weight = self._pseudo_labels(energy, self.batch)
        group, member = label.div(self.members, rounding_mode="floor"), label % self.members
        turns = torch.stack([(ROTATIONS * uniform((len(view),), view, moment.generator)).long().clamp_max(ROTATIONS - 1) for view in views])
        h = F.relu(energy.embed(rotate(views.flatten(0, 1), turns.flatten())))
        upper, lower = self.upper(h), self.lower(h).unflatten(1, (-1, self.members))
        above = (turns * self.super_clusters + group).flatten()
        first, second = two_levels(upper, lower, above, member.expand(turns.shape).flatten(), weight.expand(turns.shape).flatten())
        hit = (upper.detach().argmax(1) == above).float().mean()
        return StepOutput(first + second, {"super_class": first.detach(), "sub_class": second.detach(), "super_class_accuracy": hit})

    def _pseudo_labels(self, energy: JointEnergy, batch: Batch) -> tuple[Tensor, Tensor]:
        """The cluster of each clip and how much the clip counts, ``[B]``."""
        if not energy.training:
            label = nearest(self._places(self.features(energy, batch)), self.centroids)
            return label, torch.ones_like(label, dtype=self.weights.dtype)
        label = self.labels[batch.key]
        return label.clamp_min(0), torch.where(label < 0, 0, self.weights[label])  # -1: a clip that could not be read when all others were

    def _places(self, features: Tensor) -> Tensor:
        """Where features lie among the clusters, ``[B, components]``."""
        return F.normalize((features.float() - self.mean) @ self.basis)

    def _cluster(self, places: Tensor, clusters: int, generator: torch.Generator) -> Clusters:
        return kmeans(places, plus_plus(places, clusters, generator), self.iterations, generator)


def _remember(module: nn.Module, keys: object) -> None:
    """A run that goes on has the labels of its checkpoint."""
    assert isinstance(module, DeeperCluster)
    module.clustered = bool((module.labels >= 0).any())
