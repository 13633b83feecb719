"""Features and logits come from one pass, and convolutional layers are pooled to the penultimate width."""

from collections import OrderedDict

import pytest
import torch
from torch import nn

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


class Strange(nn.Module):
    """A network of someone else: convolution, recurrent layer, shared and unused parts, an in-place layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(inplace=True))
        self.rnn = nn.RNN(26, 5, batch_first=True)
        self.neck = nn.Linear(5, 7)
        self.head = nn.Linear(7, 4)
        self.unused = nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = self.rnn(self.stem(x).mean(1))[0]
        return self.head(input=self.neck(rows[:, -1]).relu())


def test_layers_of_any_module_are_found() -> None:
    torch.manual_seed(0)
    net, x = Strange().eval(), torch.rand(5, 1, 28, 28)
    with torch.no_grad():
        stem, logits = net.stem[0](x), net(x)
        neck = net.neck(net.rnn(stem.relu().mean(1))[0][:, -1])
    for layer, expected in {
        "penultimate": neck.relu(), "neck": neck, "head": logits, "stem.0": stem.mean((2, 3)),
        "stem": stem.relu().mean((2, 3)),
    }.items():  # fmt: skip
        found = describe(net, x, layer)
        torch.testing.assert_close(found.features, expected)
        torch.testing.assert_close(found.logits, logits)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


def test_a_module_without_any_linear_layer_needs_a_name() -> None:
    net = nn.Sequential(OrderedDict(conv=nn.Conv2d(1, 4, 3), pool=nn.AdaptiveAvgPool2d(1), flat=nn.Flatten()))
    x = torch.rand(2, 1, 8, 8)
    torch.testing.assert_close(describe(net, x, "conv").features, net(x).detach())
    with pytest.raises(ValueError, match="such as flat, pool, conv, got 'penultimate', which does not run"):
        describe(net, x)


def test_a_layer_that_will_not_do_is_named() -> None:
    net, x = Strange(), torch.rand(2, 1, 28, 28)
    for layer, words in [
        ("conv9", "expected penultimate or a submodule such as unused, head, neck, rnn, .* got 'conv9'; check the sp"),
        ("unused", "got 'unused', which does not run"),
        ("rnn", "from 'rnn', got tuple"),
        ("", "got ''; check"),
    ]:
        with pytest.raises(ValueError, match=words):
            describe(net, x, layer)
    tokens = nn.Sequential(nn.Flatten(2), nn.Linear(784, 3), nn.Flatten())
    with pytest.raises(ValueError, match=r"from 'penultimate', got \(2, 1, 784\)"):
        describe(tokens, x)
    net.neck.weight.data[:] = torch.nan
    with pytest.raises(ValueError, match="from 'neck' and the output, got NaN"):
        describe(net, x, "neck")
    with pytest.raises(ValueError, match="expected penultimate, fc1, conv2, conv1 or .* got 'conv9'"):
        trace(NET, x, "conv9")
    with pytest.raises(ValueError, match="got 'conv9'"):
        NET.with_features(torch.zeros(1, 1, 28, 28), "conv9")


def test_no_image_gives_no_row() -> None:
    logits, features = describe(NET, torch.zeros(0, 1, 28, 28))
    assert logits.shape == (0, 10)
    assert features.shape == (0, 84)
