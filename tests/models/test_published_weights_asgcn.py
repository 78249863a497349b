"""The released AS-GCN code's state dicts load strictly, and mean the same function."""

from __future__ import annotations

import pytest
import torch

from kinegraph.errors import ModelError
from kinegraph.models import create_model
from kinegraph.models.asgcn import ASGCN
from kinegraph.models.published_weights import load_asgcn
from kinegraph.skeleton.graph import adjacency
from models.reference_asgcn import ReferenceASGCN, ReferenceLinks
from models.test_stgcn import randomise

NARROW = (8, 8, 8, 12, 12, 12, 16, 16, 16)


def graph() -> torch.Tensor:
    return torch.from_numpy(adjacency("ntu25", max_hop=4, center_distance="truncated"))


def settled(module: torch.nn.Module, *inputs: torch.Tensor) -> torch.nn.Module:
    """Weights and importance off their start values, batch statistics of these inputs."""
    randomise(module)
    for part in module.modules():
        if isinstance(part, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            part.momentum = 1.0
    with torch.no_grad():
        module.train()(*inputs)
    return module.eval()


def narrow_model(**options: object) -> ASGCN:
    return create_model(
        "asgcn", layout="ntu25", num_classes=7, channels=NARROW, faithful=True, **options
    ).eval()


def states(link_frames: int = 50) -> tuple[dict, dict]:
    main, links = ReferenceASGCN(graph(), 7, NARROW), ReferenceLinks(25, link_frames)
    return dict(main.state_dict()), dict(links.state_dict())


def test_the_published_sizes():
    main, links = ReferenceASGCN(graph(), 60), ReferenceLinks(25, 50)
    assert (len(main.state_dict()), len(links.state_dict())) == (299, 65)
    assert sum(p.numel() for p in main.parameters()) == 6_987_478
    assert sum(p.numel() for p in links.parameters()) == 417_798
    model = create_model("asgcn", layout="ntu25", num_classes=60, faithful=True)
    load_asgcn(model, main.state_dict(), links.state_dict())
    torch.testing.assert_close(model.head.weight, main.fcn.weight.flatten(1))


def test_the_same_function_as_the_original_networks():
    torch.manual_seed(0)
    clip = torch.randn(2, 3, 300, 25, 2).cumsum(dim=2) / 10
    clip[1, ..., 1] = 0
    context, last = clip[:, :, :290], clip[:, :, 289]
    poses = context[:, :, [int(j * 5.8) for j in range(50)]].permute(0, 4, 3, 2, 1).flatten(0, 1)
    links = settled(ReferenceLinks(25, 50), poses)
    with torch.no_grad():
        links.encoder.fc_out.bias -= links(poses)[1].log().mean(dim=(0, 1))
        A_batch, probabilities, next_poses = links(poses)
        main = settled(ReferenceASGCN(graph(), 7, NARROW), context, last, A_batch)
        logits, future = main(context, last, A_batch)
    model = narrow_model()
    prefixed = {f"module.{key}": value for key, value in main.state_dict().items()}
    load_asgcn(model, prefixed, links.state_dict())
    with torch.inference_mode():
        ours = model.infer_links(clip)
        answers = model.predict_future(context, last)
        decoded = model.links.decoder(poses, ours.edges.flatten(0, 1))
        same_logits = model(clip)
    number = torch.zeros(25, 25, dtype=torch.long)
    number[ours.senders, ours.receivers] = torch.arange(600)
    order = number[links.senders, links.receivers]
    assert ours.edges.mean(dim=(0, 1, 2)).min() > 0.1
    assert min((part[0] - part[1]).abs().max() for part in (logits, future)) > 0.1
    close = {"rtol": 1e-4, "atol": 5e-5}
    torch.testing.assert_close(ours.adjacency.flatten(0, 1), A_batch, **close)
    torch.testing.assert_close(ours.probabilities.flatten(0, 1)[:, order], probabilities, **close)
    torch.testing.assert_close(decoded, next_poses, **close)
    torch.testing.assert_close(answers[0], logits, **close)
    torch.testing.assert_close(same_logits, logits, **close)
    torch.testing.assert_close(answers[1].permute(0, 4, 1, 2, 3).flatten(0, 1), future, **close)


def test_missing_counters_are_accepted():
    main, links = states()
    main = {k: v for k, v in main.items() if not k.endswith("num_batches_tracked")}
    load_asgcn(narrow_model(), main, links)


def test_weights_that_the_released_network_never_uses_are_kept_apart():
    main, links = states()
    for number in (7, 8):
        main[f"edge_importance_recon.{number}"] = torch.full((9, 25, 25), float(number))
    model = narrow_model()
    load_asgcn(model, main, links)
    assert [kept.detach().mean().item() for kept in model.forecast.unused_importance] == [7, 8]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m, k: m.pop("fcn.bias"), "lacks 'fcn.bias'$"),
        (lambda m, k: m.pop("class_layer_2.gcn.conv.bias"), "lacks 'class_layer_2.gcn.conv.bias'$"),
        (lambda m, k: m.pop("edge_importance_recon.8"), "'edge_importance_recon.8'"),
        (lambda m, k: m.update({"recon_layer_7.tcn.0.bias": m["fcn.bias"]}), "recon_layer_7"),
        (lambda m, k: m.update({"class_layer_0.extra": m["fcn.bias"]}), "class_layer_0.extra"),
        (lambda m, k: m.pop("recon_layer_0.tcn.2.weight"), "lacks 'recon_layer_0.tcn.2.weight'$"),
        (lambda m, k: m.pop("A"), "lacks 'A'$"),
        (lambda m, k: m.update({"A": torch.ones(3, 25, 25)}), "trained on another graph"),
        (
            lambda m, k: m.update({"class_layer_1.gcn.conv.weight": torch.ones(99, 8, 1, 1)}),
            r"'class_layer_1.gcn.conv.weight\[structural\]' has shape \(9, 8, 9\)",
        ),
        (
            lambda m, k: m.update({"class_layer_1.gcn.conv.weight": torch.ones(5, 8, 1, 1)}),
            r"class_layer_1.gcn.conv.weight\[structural\]' has shape",
        ),
        (lambda m, k: m.update({"class_layer_1.gcn.conv.bias": torch.ones(())}), "has shape"),
        (lambda m, k: k.pop("decoder.msg_fc1.0.bias"), "lacks 'decoder.msg_fc1.0.bias'$"),
        (lambda m, k: k.update({"encoder.mlp5.fc1.bias": torch.ones(1)}), "mlp5.fc1.bias"),
        (lambda m, k: k.update({"decoder.input_r.bias": torch.ones(3)}), r"has shape \(3,\)"),
    ],
)
def test_state_dicts_that_do_not_fit_are_refused_by_name(change, message):
    main, links = states()
    change(main, links)
    with pytest.raises(ModelError, match=message):
        load_asgcn(narrow_model(), main, links)


def test_a_model_that_is_not_faithful_is_refused():
    model = create_model("asgcn", layout="ntu25", num_classes=7, channels=NARROW)
    with pytest.raises(ModelError, match="another graph"):
        load_asgcn(model, *states())
