"""AS-GCN: actional-structural graph convolutional networks (Li et al., CVPR 2019).

Shapes: N clips, M persons, n folded persons that are present, C channels, T frames, V joints,
K partitions, k future frames.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from kinegraph.errors import ModelError, unknown_name
from kinegraph.models.asgcn_layers import ASGCNBlock, FutureHead, init_corrected, init_released
from kinegraph.models.base import SkeletonModel
from kinegraph.models.layers import DataBatchNorm, check_backbone, check_last_pose, frames_at
from kinegraph.models.link_inference import (
    LinkInference,
    Links,
    even_link_frames,
    released_link_frames,
    released_offset,
)
from kinegraph.ops.persons import Pool, check_input, fold_persons, present_persons, unfold_persons
from kinegraph.skeleton.graph import adjacency
from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.skeleton.layouts import get_layout

CHANNELS = (64, 64, 64, 128, 128, 128, 256, 256, 256)
STRIDES = (1, 1, 1, 2, 1, 1, 2, 1, 1)
LinkMode = Literal["frozen", "drifting", "joint"]


class ASGCN(SkeletonModel):
    """AS-GCN for any layout and any number of persons.

    Beside the skeleton's links, up to ``max_hop`` bones long, every clip has two kinds of
    actional links, which a network of its own infers from how the joints move (see `Links`). It
    is trained first, by `link_loss`, and `link_parameters` are what is trained then.

    Args:
        layout: the skeleton, or its name.
        num_classes: number of actions.
        in_channels: C of the input, and of the poses that are predicted.
        channels: output channels of each block; the published network has nine.
        strides: temporal stride of each block.
        temporal_kernel: frames that a temporal convolution sees; odd.
        max_hop: reach of the structural links; K = 2 max_hop + 1 partitions.
        dropout: in every block.
        edge_importance: learn one weight per edge, partition and block.
        actional: infer actional links; without them only the skeleton's are left.
        link_weight: lambda, the weight of actional links.
        link_frames: how many frames of a clip the link inference looks at.
        link_mode: how the link inference takes part in recognition: ``frozen`` (in evaluation
            mode, without gradient), ``drifting`` (without gradient, but with dropout, drawn links
            and batch-norm statistics that move, as the released code has it), or ``joint``
            (learned together with the rest).
        future: k, how many frames `predict_future` looks ahead; 0 for a model that does not.
        pool: ``mean`` (the paper) or ``joints``, see `kinegraph.ops.persons.pool_places`.
        head_dropout: before the classifier.
        faithful: reproduce the released code, as published weights need it: distances to the
            center truncated at ``max_hop``; absent persons counted everywhere; `forward` leaves
            the last ``future`` frames of a clip unseen; the last pose scrambled before offsets
            are added; dropout on the offsets; the second block evaluated twice in training, so
            that its batch-norm statistics move twice; messages along links divided by C, not V;
            its choice of frames for the link inference; its initialization; and weights that it
            never uses. In evaluation links are not drawn at random as they are there.

    Raises:
        ModelError: options that do not make a network.
        UnknownNameError: an unknown link_mode or pool.
    """

    takes_lengths = True

    def __init__(
        self,
        layout: SkeletonLayout | str,
        num_classes: int,
        *,
        in_channels: int = 3,
        channels: Sequence[int] = CHANNELS,
        strides: Sequence[int] = STRIDES,
        temporal_kernel: int = 9,
        max_hop: int = 4,
        dropout: float = 0.5,
        edge_importance: bool = True,
        actional: bool = True,
        link_weight: float = 0.5,
        link_frames: int = 50,
        link_mode: LinkMode = "frozen",
        future: int = 10,
        pool: Pool = "mean",
        head_dropout: float = 0.0,
        faithful: bool = False,
    ) -> None:
        super().__init__()
        check_backbone(num_classes, in_channels, channels, strides, pool, temporal_kernel)
        _check_options(link_weight, link_frames, link_mode, future)
        self.layout = get_layout(layout)
        self.in_channels = in_channels
        self.num_features = channels[-1]
        self.link_weight = link_weight
        self.link_frames = link_frames
        self.link_mode = link_mode
        self.future = future
        self.pool = pool
        self.faithful = self.counts_absent = faithful
        # the released code leaves the last frames of a clip unseen
        self.min_frames = future + 1 if faithful else 1
        V = self.layout.num_joints
        distance: Literal["truncated", "full"] = "truncated" if faithful else "full"
        A = torch.from_numpy(adjacency(self.layout, max_hop=max_hop, center_distance=distance))
        convolutions: dict[str, Any] = {
            "kernel": temporal_kernel,
            "dropout": dropout,
            "edge_importance": edge_importance,
            "actional": actional,
        }
        self.data_bn = DataBatchNorm(V, in_channels)
        self.blocks = nn.ModuleList(
            ASGCNBlock(before, after, A, stride=stride, residual=i > 0, **convolutions)
            for i, (before, after, stride) in enumerate(
                zip((in_channels, *channels), channels, strides, strict=False)
            )
        )
        for part in (self.data_bn, self.blocks):
            part.apply(init_released if faithful else init_corrected)
        self.head_dropout = nn.Dropout(head_dropout)
        self.reset_classifier(num_classes)
        self.forecast: FutureHead | None = None
        if future:
            self.forecast = FutureHead(
                channels[-1], in_channels, future, A, faithful=faithful, **convolutions
            )
        self.links: LinkInference | None = None
        if actional:
            self.links = LinkInference(V, in_channels, link_frames, faithful=faithful)
        self.to(memory_format=torch.channels_last)
        self.train()

    def forward_features(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """(N, C, T, V, M) -> (N, M, F, T', V); zero where a person is absent (if corrected)."""
        lengths = self._check(x, lengths)
        x = self._seen(x)
        present = self._present(x)
        return unfold_persons(self._run(x, present, self._links(x, present, lengths)), present)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Clips -> logits (N, classes).

        Args:
            x: (N, C, T, V, M).
            lengths: (N,) how many of the first frames are real; what follows is padding, from
                which no links are inferred. None for all T.
        """
        return self.classify(self.forward_pooled(x, lengths))

    def forward_pooled(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """(N, C, T, V, M) -> (N, P); lengths are as for `forward`."""
        return self.pool_features(self.forward_features(x, lengths), self._present(self._seen(x)))

    def predict_future(
        self, context: Tensor, last: Tensor, lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The k poses after a clip: the last pose, held, plus an offset.

        Args:
            context: (N, C, T, V, M), the frames before the future.
            last: (N, C, V, M), the pose right before the future.
            lengths: (N,) how many of the context's first frames are real; if ``faithful``, of the
                whole clip's, before it was padded and cut. None for all.

        Returns:
            logits (N, classes) of the context, and poses (N, C, k, V, M) in input units.

        Raises:
            ModelError: the model was made with ``future=0``, or ``last`` does not fit the context.
        """
        if self.forecast is None:
            raise ModelError(
                "this model predicts no future frames (future=0): build it with their number, "
                "such as future=10"
            )
        lengths = self._check(context, lengths, ahead=self.future if self.faithful else 0)
        check_last_pose(context, last)
        present = self._present(context)
        links = self._links(context, present, lengths)
        rows = self._run(context, present, links)
        offset = self.forecast(rows, self._rows(last.unsqueeze(2), present), links)
        poses = self._held(last) + unfold_persons(offset, present).permute(0, 2, 3, 4, 1)
        return self.forward_head(unfold_persons(rows, present), present), poses

    def infer_links(self, x: Tensor, lengths: Tensor | None = None) -> Links:
        """The actional links of each person, from the same clips as `forward`.

        Raises:
            ModelError: the model was made with ``actional=False``.
        """
        net = self._link_inference()
        poses, present = self._given_poses(x, lengths, net.training)
        links = net(poses)
        by_person = [unfold_persons(rows, present) for rows in links[:3]]
        return Links(*by_person, *links[3:])

    def link_loss(self, x: Tensor, lengths: Tensor | None = None) -> dict[str, Tensor]:
        """What the link inference is trained by: how well links predict the next pose.

        Whatever ``link_mode`` says, it is in training mode here if this model is.

        Returns:
            "nll" and "kl", see `kinegraph.models.link_inference`, and "loss", their sum.

        Raises:
            ModelError: the model was made with ``actional=False``.
        """
        net = self._link_inference()
        poses, _ = self._given_poses(x, lengths, self.training)
        before = net.training
        net.train(self.training)
        try:
            return net.loss(poses)
        finally:
            net.train(before)

    def train(self, mode: bool = True) -> ASGCN:
        """A frozen link inference stays in evaluation mode."""
        super().train(mode)
        if self.links is not None and self.link_mode == "frozen":
            self.links.eval()
        return self

    def strip_training_parts(self) -> None:
        self.forecast = None
        if self.links is not None:
            del self.links.decoder

    def link_parameters(self) -> Iterator[nn.Parameter]:
        """The parameters of the link inference, which `link_loss` trains; none without it."""
        return iter(()) if self.links is None else self.links.parameters()

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Groups for an optimizer; the link inference does not decay (as published)."""
        links = list(self.link_parameters())
        apart = {id(parameter) for parameter in links}
        others = [parameter for parameter in self.parameters() if id(parameter) not in apart]
        groups = [{"params": others, "weight_decay": weight_decay}]
        return [*groups, {"params": links, "weight_decay": 0.0}] if links else groups

    def _check(self, x: Tensor, lengths: Tensor | None, ahead: int = 0) -> Tensor:
        """The real lengths (N,); those of whole clips of T + ``ahead`` frames if not stated."""
        check_input(x, self.layout, self.in_channels)
        if lengths is None:
            return torch.full(x.shape[:1], x.shape[2] + ahead, device=x.device)
        if lengths.shape != x.shape[:1]:
            raise ModelError(
                f"expected a length for each of the {len(x)} clips, got {tuple(lengths.shape)}"
            )
        return lengths.to(x.device)

    def _seen(self, x: Tensor) -> Tensor:
        """The frames that are classified: all, but the future if ``faithful``."""
        if not self.faithful:
            return x
        if x.shape[2] <= self.future:
            raise ModelError(
                f"with faithful=True the last {self.future} frames (future) are not seen: expected "
                f"clips of more frames, got {x.shape[2]}"
            )
        return x[:, :, : x.shape[2] - self.future]

    def _present(self, x: Tensor) -> Tensor:
        """(N, M) bool: persons that count."""
        if self.faithful:
            return torch.ones(x.shape[0], x.shape[4], dtype=torch.bool, device=x.device)
        return present_persons(x)

    def _rows(self, x: Tensor, present: Tensor) -> Tensor:
        rows = fold_persons(x)
        return rows if self.faithful else rows[present.flatten()]

    def _run(self, x: Tensor, present: Tensor, links: Tensor | None) -> Tensor:
        """(N, C, T, V, M) -> features (n, F, T', V)."""
        y = self.data_bn(self._rows(x, present))
        for i, block in enumerate(self.blocks):
            if i == 1 and self.faithful and self.training:
                with torch.no_grad():
                    block(y, links)
            y = block(y, links)
        return y

    def _links(self, x: Tensor, present: Tensor, lengths: Tensor) -> Tensor | None:
        """(n, 2, V, V) actional links times their weight."""
        if self.links is None:
            return None
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.link_mode == "joint"):
            links = self.links(self._poses(x, present, lengths, self.links.training))
            return links.adjacency * self.link_weight

    def _poses(self, x: Tensor, present: Tensor, lengths: Tensor, shifted: bool) -> Tensor:
        """(n, V, F, C) poses for the link inference, from random frames if ``shifted``."""
        frames = self._frame_numbers(lengths, shifted).clamp(0, x.shape[2] - 1)
        persons = frames_at(x, frames).permute(0, 4, 3, 2, 1).flatten(0, 1)
        return persons if self.faithful else persons[present.flatten()]

    def _frame_numbers(self, lengths: Tensor, shifted: bool) -> Tensor:
        if self.faithful:
            options = (self.link_frames, self.future)
            start = released_offset(lengths, *options) if shifted else 0
            return released_link_frames(lengths, *options, start)
        share = torch.rand_like(lengths, dtype=torch.float64) if shifted else 0.0
        return even_link_frames(lengths, self.link_frames, share)

    def _held(self, last: Tensor) -> Tensor:
        """(N, C, V, M) -> (N, C, k, V, M): the last pose k times, scrambled if ``faithful``.

        The released code lays the pose out frame by frame, and reads it channel by channel.
        """
        C, k = last.shape[1], self.future
        numbers = torch.arange(C * k, device=last.device)
        channel = numbers % C if self.faithful else numbers // k
        return last[:, channel.view(C, k)]

    def _given_poses(
        self, x: Tensor, lengths: Tensor | None, shifted: bool
    ) -> tuple[Tensor, Tensor]:
        lengths = self._check(x, lengths)
        x = self._seen(x)
        present = self._present(x)
        return self._poses(x, present, lengths, shifted), present

    def _link_inference(self) -> LinkInference:
        if self.links is None:
            raise ModelError("this model infers no links: build it with actional=True")
        return self.links


def _check_options(link_weight: float, link_frames: int, link_mode: str, future: int) -> None:
    if link_mode not in get_args(LinkMode):
        raise unknown_name("link_mode", link_mode, get_args(LinkMode))
    if link_frames < 2 or future < 0 or not 0 <= link_weight < float("inf"):
        raise ModelError(
            f"expected link_frames of at least 2, future and link_weight of at least 0, "
            f"got link_frames={link_frames}, future={future}, link_weight={link_weight}"
        )
