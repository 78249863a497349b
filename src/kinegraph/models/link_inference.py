"""Link inference of AS-GCN: links between joints, learned by predicting the next pose.

Li et al., CVPR 2019, section 4.1, after neural relational inference (Kipf et al., ICML 2018).

Shapes: N clips, M persons, n folded persons that are present, C channels, F frames that are
looked at, V joints, E = V (V - 1) edges, H hidden features. Edges are ordered by receiver, then
by sender, so that (n, E, H) is (n, V, V - 1, H) and a sum over senders moves no memory. An edge
has one of three types; the first is "no link".
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import elu, linear, one_hot

HIDDEN = 128
DROPOUT = 0.5
#: How probable the types are held to be beforehand: none, first, second.
PRIOR = (0.95, 0.025, 0.025)
LINK_TYPES = len(PRIOR)
#: Of a predicted coordinate, in squared input units.
VARIANCE = 5e-4
TEMPERATURE = 0.5
#: Column sum of an actional adjacency.
COLUMN_SUM = 0.1


class Links(NamedTuple):
    """What is inferred; rows are (N, M), or the n present persons inside the model.

    Attributes:
        adjacency: (N, M, 2, V, V) indexed type, source, target: links and self-links, columns
            summing to 0.1; zero for absent persons.
        probabilities: (N, M, E, 3) of the types.
        edges: (N, M, E, 3) the type that was drawn (training) or is likeliest, one-hot.
        senders: (E,) source joint of each edge.
        receivers: (E,) target joint of each edge.
    """

    adjacency: Tensor
    probabilities: Tensor
    edges: Tensor
    senders: Tensor
    receivers: Tensor


def edge_joints(num_joints: int) -> tuple[Tensor, Tensor]:
    """(E,) senders and (E,) receivers of all pairs of two joints, receiver by receiver."""
    receivers, senders = (~torch.eye(num_joints, dtype=torch.bool)).nonzero().unbind(1)
    return senders, receivers


def even_link_frames(lengths: Tensor, count: int, offset: float | Tensor = 0.0) -> Tensor:
    """Frames spread evenly over each clip, floor((j + offset) L / count); short clips repeat some.

    Args:
        lengths: (N,) real frames L of each clip.
        count: frames to take.
        offset: where in its share of the clip each frame is, from 0 to below 1, one or (N,).

    Returns:
        (N, count) int64, all below L.
    """
    start = torch.as_tensor(offset, dtype=torch.float64, device=lengths.device)[..., None]
    step = torch.arange(count, device=lengths.device) + start
    frames = (step * lengths[:, None] / count).floor().long()
    return torch.minimum(frames, lengths[:, None] - 1)


def released_link_frames(
    lengths: Tensor, count: int, future: int, offset: int | Tensor = 0
) -> Tensor:
    """The frames that the released AS-GCN loader takes.

    The first ``count`` of a clip of up to count + future frames; else floor(j q) + offset with
    the ratio q = (L - future) / count.

    Args:
        lengths: (N,) real frames L of each whole clip, before it was padded by repetition.
        count: frames to take (50 in the released code).
        future: frames kept back at the end (10 in the released code).
        offset: whole frames, one or (N,); below ceil(q).

    Returns:
        (N, count) int64, below L - future for long clips.
    """
    step = torch.arange(count, device=lengths.device)
    ratio = (lengths[:, None] - future).double() / count
    start = torch.as_tensor(offset, device=lengths.device)[..., None]
    spread = (step * ratio).floor().long() + start
    return torch.where(lengths[:, None] <= count + future, step, spread)


def released_offset(lengths: Tensor, count: int, future: int) -> Tensor:
    """(N,) random offsets for `released_link_frames`, evenly from 0 to below ceil(q)."""
    choices = ((lengths - future).double() / count).ceil()
    return (torch.rand_like(choices) * choices).long()


def draw_edges(logits: Tensor, noise: bool) -> Tensor:
    """(..., 3) logits -> one-hot types, whose gradient is that of a softmax at temperature 0.5.

    Args:
        logits: of the types.
        noise: draw by Gumbel noise (Jang et al. 2017); else the likeliest type is taken.
    """
    if noise:
        logits = logits - torch.log(1e-10 - torch.log(torch.rand_like(logits) + 1e-10))
    soft = torch.softmax(logits / TEMPERATURE, dim=-1)
    hard = one_hot(soft.argmax(dim=-1), LINK_TYPES).to(soft.dtype)
    return hard - soft.detach() + soft if soft.requires_grad else hard


def by_joints(edges: Tensor, num_joints: int) -> Tensor:
    """(n, E, F) -> (n, V, V, F) indexed receiver, sender; zero from a joint to itself."""
    n, _, F = edges.shape
    # without its first entry a square matrix is V - 1 rows of V edges and one self-link
    rows = edges.reshape(n, num_joints - 1, num_joints, F)
    rows = nn.functional.pad(rows, (0, 0, 0, 1)).flatten(1, 2)
    return nn.functional.pad(rows, (0, 0, 1, 0)).unflatten(1, (num_joints, num_joints))


def actional_adjacency(edges: Tensor, num_joints: int) -> Tensor:
    """(n, E, 3) one-hot types -> (n, 2, V, V) indexed type, source, target.

    Self-links are added, each column is divided by its sum, and all is scaled to 0.1.
    """
    linked = by_joints(edges[..., 1:], num_joints).permute(0, 3, 2, 1)
    linked = linked + torch.eye(num_joints, dtype=edges.dtype, device=edges.device)
    return linked * (COLUMN_SUM * (1 / linked.sum(dim=2, keepdim=True) + 1e-10))


def pose_nll(predicted: Tensor, true: Tensor) -> Tensor:
    """Negative log likelihood of poses (n, V, F, C) per person and joint, variance 5e-4."""
    return ((predicted - true) ** 2).sum() / (2 * VARIANCE * true.shape[0] * true.shape[1])


def link_kl(probabilities: Tensor, num_joints: int) -> Tensor:
    """Divergence of edge types (n, E, 3) from their prior, per person and joint.

    Li et al. 2019, equation 8; the prior is 0.95, 0.025, 0.025.
    """
    log_prior = probabilities.new_tensor(PRIOR).log()
    divergence = probabilities * ((probabilities + 1e-16).log() - log_prior)
    return divergence.sum() / (num_joints * len(probabilities))


class ItemMLP(nn.Module):
    """Two linear layers with ELU, then a batch norm over all items of all persons."""

    def __init__(self, in_features: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(in_features, HIDDEN)
        self.fc2 = nn.Linear(HIDDEN, HIDDEN)
        self.bn = nn.BatchNorm1d(HIDDEN)
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, x: Tensor) -> Tensor:
        """(..., features) -> (..., H)."""
        return self.after_first(self.fc1(x))

    def after_first(self, first: Tensor) -> Tensor:
        """The rest, from what the first linear layer gives."""
        y = elu(self.fc2(self.dropout(elu(first))))
        return self.bn(y.flatten(0, -2)).view(y.shape)


class LinkEncoder(nn.Module):
    """How each joint moves -> logits of the type of every edge (Li et al. 2019, equation 4)."""

    senders: Tensor
    receivers: Tensor

    def __init__(self, num_joints: int, in_features: int) -> None:
        super().__init__()
        senders, receivers = edge_joints(num_joints)
        self.register_buffer("senders", senders, persistent=False)
        self.register_buffer("receivers", receivers, persistent=False)
        self.mlp1 = ItemMLP(in_features)
        self.mlp2 = ItemMLP(2 * HIDDEN)
        self.mlp3 = ItemMLP(HIDDEN)
        self.mlp4 = ItemMLP(3 * HIDDEN)
        self.fc_out = nn.Linear(HIDDEN, LINK_TYPES)
        self.apply(_init_xavier)

    def forward(self, x: Tensor) -> Tensor:
        """(n, V, F*C) -> (n, E, 3)."""
        joints = self.mlp1(x)
        pairs = self.mlp2.after_first(self._meet(self.mlp2.fc1, joints))
        joints = self.mlp3(pairs.sum(dim=2) / x.shape[1])
        meeting = self._meet(self.mlp4.fc1, joints)
        meeting = meeting + linear(pairs, self.mlp4.fc1.weight[:, 2 * HIDDEN :])
        return self.fc_out(self.mlp4.after_first(meeting)).flatten(1, 2)

    def _meet(self, layer: nn.Linear, joints: Tensor) -> Tensor:
        """The layer's answer to [receiver, sender], (n, V, V - 1, H): each joint counted once."""
        V = joints.shape[1]
        receiver, sender = layer.weight[:, :HIDDEN], layer.weight[:, HIDDEN : 2 * HIDDEN]
        sent = linear(joints, sender).index_select(1, self.senders)
        received = linear(joints, receiver, layer.bias)
        return sent.unflatten(1, (V, V - 1)) + received.unsqueeze(2)


class LinkDecoder(nn.Module):
    """Each pose and the messages along the links -> the next pose (a GRU on the graph).

    ``faithful`` divides the sum of messages by the number of channels, as the released code does,
    and keeps its unused layers for the type "no link"; corrected, it is divided by V.
    """

    def __init__(self, in_channels: int, faithful: bool) -> None:
        super().__init__()
        types = LINK_TYPES if faithful else LINK_TYPES - 1
        self.faithful = faithful
        self.msg_fc1 = nn.ModuleList(nn.Linear(2 * HIDDEN, HIDDEN) for _ in range(types))
        self.msg_fc2 = nn.ModuleList(nn.Linear(HIDDEN, HIDDEN) for _ in range(types))
        self.hidden_r = nn.Linear(HIDDEN, HIDDEN, bias=False)
        self.hidden_i = nn.Linear(HIDDEN, HIDDEN, bias=False)
        self.hidden_n = nn.Linear(HIDDEN, HIDDEN, bias=False)
        self.input_r = nn.Linear(in_channels, HIDDEN)
        self.input_i = nn.Linear(in_channels, HIDDEN)
        self.input_n = nn.Linear(in_channels, HIDDEN)
        self.out_fc1 = nn.Linear(HIDDEN, HIDDEN)
        self.out_fc2 = nn.Linear(HIDDEN, HIDDEN)
        self.out_fc3 = nn.Linear(HIDDEN, in_channels)
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, poses: Tensor, edges: Tensor) -> Tensor:
        """Poses (n, V, F, C) and types (n, E, 3) -> the poses 1..F-1, (n, V, F-1, C).

        Every step is given the true pose before it.
        """
        n, V, _, C = poses.shape
        scale = (LINK_TYPES - 1) * (C if self.faithful else V)
        weights_rs = [w / scale for w in by_joints(edges, V).unbind(3)[1:]]
        given = poses[:, :, :-1]
        drive = [layer(given) for layer in (self.input_r, self.input_i, self.input_n)]
        hidden, states = drive[0].new_zeros(n, V, HIDDEN), []
        for reset, update, new in zip(*(d.unbind(2) for d in drive), strict=True):
            message = self._messages(hidden, weights_rs)
            r = torch.sigmoid(reset + self.hidden_r(message))
            i = torch.sigmoid(update + self.hidden_i(message))
            hidden = torch.lerp(torch.tanh(new + r * self.hidden_n(message)), hidden, i)
            states.append(hidden)
        return given + self._output(torch.stack(states, dim=2))

    def _messages(self, hidden: Tensor, weights_rs: list[Tensor]) -> Tensor:
        """(n, V, H): what each joint receives, summed over senders and types."""
        total = torch.zeros_like(hidden)
        layers = zip(self.msg_fc1[1 - LINK_TYPES :], self.msg_fc2[1 - LINK_TYPES :], strict=True)
        for weight_rs, (first, second) in zip(weights_rs, layers, strict=True):
            received = linear(hidden, first.weight[:, :HIDDEN], first.bias).unsqueeze(2)
            sent = linear(hidden, first.weight[:, HIDDEN:]).unsqueeze(1)
            message = self._dropped_tanh(received + sent)
            message = torch.tanh_(second(message))
            total = total + (weight_rs.unsqueeze(2) @ message).squeeze(2)
        return total

    def _dropped_tanh(self, x: Tensor) -> Tensor:
        """dropout(tanh(x)) in place, with half of the entries dropped.

        As tanh(0) = 0 the mask may come first. One random number makes eight bytes of it: this is
        where link training spends its time, F - 1 times a clip.
        """
        if not self.training:
            return torch.tanh_(x)
        bits = torch.empty(x.numel() // 8, dtype=torch.int64, device=x.device).random_()
        kept = bits.view(torch.int8).bitwise_and_(1).to(x.dtype).view(x.shape)
        return torch.tanh_(x.mul_(kept)) * 2

    def _output(self, hidden: Tensor) -> Tensor:
        y = self.dropout(torch.relu(self.out_fc1(hidden)))
        return self.out_fc3(self.dropout(torch.relu(self.out_fc2(y))))


class LinkInference(nn.Module):
    """The link inference network: poses in, links out; a decoder tests how useful they are.

    In training the types are drawn with noise, in evaluation the likeliest are taken. (The
    released code draws in evaluation as well, so that its answers differ from run to run.)

    Args:
        num_joints: V.
        in_channels: C of the poses.
        frames: F, how many poses of a clip are looked at.
        faithful: see `LinkDecoder`.
    """

    keeps_full_precision = True  # a rounding may choose another kind of link

    def __init__(self, num_joints: int, in_channels: int, frames: int, *, faithful: bool) -> None:
        super().__init__()
        self.encoder = LinkEncoder(num_joints, frames * in_channels)
        self.decoder = LinkDecoder(in_channels, faithful)

    def forward(self, poses: Tensor) -> Links:
        """(n, V, F, C) -> the links of n persons."""
        logits = self.encoder(poses.flatten(2))
        edges = draw_edges(logits, noise=self.training)
        adjacency = actional_adjacency(edges, poses.shape[1])
        probabilities = logits.softmax(dim=-1)
        senders, receivers = self.encoder.senders, self.encoder.receivers
        return Links(adjacency, probabilities, edges, senders, receivers)

    def loss(self, poses: Tensor) -> dict[str, Tensor]:
        """(n, V, F, C) -> "nll" and "kl" (Li et al. 2019, equations 7 and 8), and their sum."""
        links = self(poses)
        nll = pose_nll(self.decoder(poses, links.edges), poses[:, :, 1:])
        kl = link_kl(links.probabilities, poses.shape[1])
        return {"nll": nll, "kl": kl, "loss": nll + kl}


def _init_xavier(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.xavier_normal_(module.weight)
        nn.init.constant_(module.bias, 0.1)
