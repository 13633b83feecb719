"""Networks that return something else than logits."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from btlib.cli.adapting import adapted
from btlib.cli.probing import ForeignError

X = torch.rand(6, 1, 2, 2, generator=torch.Generator().manual_seed(0))


def linear(*more: nn.Module, out: int = 3) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(4, out), *more).eval()


class Returning(nn.Module):
    """`what(logits)` of a linear network."""

    def __init__(self, what: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.linear, self.what = linear(), what

    def forward(self, x: Tensor) -> Any:
        return self.what(self.linear(x))


def test_logits_stay_as_they_are() -> None:
    network = linear()
    assert adapted(network, X) == (network, [])
    log_softmax = linear(nn.LogSoftmax(1))
    assert adapted(log_softmax, X) == (log_softmax, [])  # logits up to a constant of each image


def test_a_softmax_layer_is_taken_off_a_copy() -> None:
    network = linear(nn.Softmax(dim=1))
    bare, said = adapted(network, X)
    assert torch.allclose(bare(X), linear()(X))
    assert said == ["the network ends in a softmax, which was taken off"]
    assert torch.allclose(network(X).sum(1), torch.ones(6))


def test_a_softmax_inside_the_network_is_left() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 5), nn.Softmax(1), nn.Linear(5, 3)).eval()
    assert adapted(network, X) == (network, [])


def test_probabilities_of_a_function_are_made_logits() -> None:
    network, said = adapted(Returning(lambda logits: logits.softmax(1)), X)
    assert torch.allclose(network(X), linear()(X).log_softmax(1), atol=1e-5)
    assert "probabilities, of which the logarithm is taken" in said[0]
    certain, _ = adapted(Returning(lambda logits: (1000 * logits).softmax(1)), X)
    assert bool(certain(X).isfinite().all())


@pytest.mark.parametrize(
    ("what", "key"),
    [
        (lambda logits: (logits, torch.zeros(6, 4, 2, 2)), 0),
        (lambda logits: [torch.zeros(6, 8, 1, 1), logits], 1),
        (lambda logits: {"features": torch.zeros(6, 8), "logits": logits}, "logits"),
        (lambda logits: {"hidden": torch.zeros(6, 8, 1), "y": logits}, "y"),
    ],
)
def test_the_logits_are_found_among_several_outputs(what, key) -> None:
    network, said = adapted(Returning(what), X)
    assert torch.equal(network(X), linear()(X))
    assert said == [f"of the network's outputs {key!r} is taken for the logits"]


def test_it_asks_where_several_may_be_the_logits_and_takes_the_answer() -> None:
    network = Returning(lambda logits: (logits, 2 * logits))
    with pytest.raises(ForeignError, match=r"--output: .* there are 0 \(6, 3\), 1 \(6, 3\)"):
        adapted(network, X)
    assert torch.equal(adapted(network, X, output="1")[0](X), 2 * linear()(X))
    with pytest.raises(ForeignError, match="--output: expected one of the network's outputs .*, got 2"):
        adapted(network, X, output="2")


@pytest.mark.parametrize(
    ("network", "said"),
    [
        (linear(out=1), "one output per class, got a single one"),
        (linear(nn.Sigmoid()), r"numbers in 0…1 that do not sum to 1 \(a sigmoid for each class\?\)"),
        (Returning(lambda logits: "cat"), r"expected logits \(N, K\), got str"),
    ],
)
def test_what_has_no_logits_is_refused(network, said) -> None:
    with pytest.raises(ForeignError, match=said):
        adapted(network, X)


def test_the_network_is_left_as_it_was() -> None:
    network = linear(nn.Dropout(0.5), nn.Softmax(1)).train()
    adapted(network, X)
    assert network.training
    assert isinstance(network[-1], nn.Softmax)
