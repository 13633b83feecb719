"""Features and logits come from one pass, and convolutional layers are pooled to the penultimate width."""

import pytest
import torch

from btlib import metrics, networks
from btlib.inflight.features import describe, pooled, trace

NET = networks.build("lenet5", image_shape=(1, 28, 28), num_classes=10, seed=0).eval()


@pytest.mark.parametrize("layer", NET.feature_layers)
def test_one_pass_gives_both_logits_and_features(layer: str) -> None:
    calls = []
    handle = NET.body[0].register_forward_hook(lambda *_: calls.append(1))
    x = torch.rand(5, 1, 28, 28)
    try:
        logits, features = describe(NET, x, layer)
    finally:
        handle.remove()
    assert len(calls) == 1
    torch.testing.assert_close(logits, metrics.predict(NET, x))
    with torch.no_grad():
        both = NET.with_features(x, layer)
        torch.testing.assert_close(features, pooled(NET.features(x, layer), 84))
        torch.testing.assert_close(both[1], NET.features(x, layer))
    torch.testing.assert_close(logits, both[0])
    assert not NET.body.relu2._forward_hooks, "a hook was left behind"


def test_pooling_averages_over_a_grid_that_fits() -> None:
    maps = torch.arange(2 * 6 * 14 * 14.0).view(2, 6, 14, 14)
    assert pooled(maps, 84).shape == (2, 6 * 3 * 4)
    assert pooled(maps, 512).shape == (2, 6 * 9 * 9)
    torch.testing.assert_close(pooled(maps, 6), maps.mean((2, 3)))
    torch.testing.assert_close(pooled(maps, 6 * 4), maps.view(2, 6, 2, 7, 2, 7).mean((3, 5)).flatten(1))
    torch.testing.assert_close(pooled(maps, 3), maps.mean((2, 3)).view(2, 3, 2).mean(2)), "channels in pairs"
    assert torch.equal(pooled(maps.flatten(1), 84), maps.flatten(1)), "what is no map stays as it is"
    with pytest.raises(ValueError, match=r"got \(2, 6, 14\)"):
        pooled(maps[..., 0], 84)


def test_bad_networks_and_layers_are_named() -> None:
    with pytest.raises(TypeError, match="got Linear"):
        check_network(torch.nn.Linear(1, 1), "penultimate")
    with pytest.raises(ValueError, match="got 'conv9'"):
        check_network(NET, "conv9")
    with pytest.raises(ValueError, match="got 'conv9'"):
        NET.with_features(torch.zeros(1, 1, 28, 28), "conv9")


def test_no_image_gives_no_row() -> None:
    logits, features = describe(NET, torch.zeros(0, 1, 28, 28))
    assert logits.shape == (0, 10)
    assert features.shape == (0, 84)
