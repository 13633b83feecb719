"""Weights as strangers save them."""

from collections import OrderedDict

import pytest
import torch
from torch import Tensor, nn

from btlib.cli.probing import ForeignError
from btlib.cli.state_dicts import WRAPPERS, fill, half_precision, unwrapped


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(72, 3))


def filled(weights: dict[str, Tensor], into: nn.Module | None = None) -> list[str]:
    """Fill a network of other weights; it must then answer as the first one does."""
    fresh = into or network()
    for parameter in fresh.parameters():
        parameter.data.fill_(0.5)
    said = fill(fresh, weights, "it", "mend it")
    x = torch.rand(4, 1, 8, 8)
    assert torch.allclose(fresh.eval()(x), network().eval()(x), atol=1e-3)
    return said


@pytest.mark.parametrize("key", WRAPPERS)
def test_every_usual_wrapper_is_opened(key: str) -> None:
    weights = network().state_dict()
    found = unwrapped(
        {"epoch": 3, "acc": 0.9, "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}, key: weights}, "a"
    )
    assert found.keys() == {name for name in weights if not name.endswith("tracked")}


def test_wrappers_in_wrappers_and_an_unusual_one() -> None:
    weights = network().state_dict()
    assert unwrapped({"state": {"model": {"params": weights}}, "args": {"lr": 1}}, "a").keys() >= {"0.weight"}
    assert unwrapped({"my weights": weights, "args": {"lr": 1}}, "a").keys() >= {"0.weight"}


def test_numbers_beside_the_weights_are_left() -> None:
    assert "step" not in unwrapped({**network().state_dict(), "step": 7}, "a")


@pytest.mark.parametrize(
    "found",
    [[1, 2], {}, {"a": 1}, {"a": {}, "b": {"c": 1}}, {"one": {"w": torch.ones(1)}, "two": {"w": torch.ones(1)}}],
)
def test_what_holds_no_weights_is_refused(found: object) -> None:
    with pytest.raises(ForeignError, match=r"WEIGHTS: expected a state dict .*got .* in odd\.pth; save"):
        unwrapped(found, "odd.pth")


@pytest.mark.parametrize("before", ["module.", "_orig_mod.", "model.", "net.", "module._orig_mod.model.", "x.y.z."])
def test_any_stack_of_prefixes_is_taken_off(before: str) -> None:
    assert filled({before + key: value for key, value in network().state_dict().items()}) == []


def test_prefixes_of_the_network_are_put_on() -> None:
    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network()

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x)

    assert filled(network().state_dict(), Wrapped()) == []
    assert filled({f"module.{key}": value for key, value in network().state_dict().items()}, Wrapped()) == []


def test_halves_are_read_in_the_networks_own_precision() -> None:
    halves = {
        key: value.half() if value.is_floating_point() else value for key, value in network().state_dict().items()
    }
    assert half_precision(halves)
    assert not half_precision(network().state_dict())
    fresh = network()
    fill(fresh, halves, "it", "mend it")
    assert fresh[0].weight.dtype == torch.float32
    assert filled(halves) == []


def test_buffers_too_many_or_missing_are_named() -> None:
    weights = OrderedDict(network().state_dict())
    weights["0.total_ops"] = torch.zeros(1)  # a profiler's
    assert filled(weights) == []
    weights["1.spectral"] = torch.zeros(2)
    assert filled(weights) == ["1.spectral is in the file and not in the network"]
    del weights["1.running_mean"]
    assert fill(network(), weights, "it", "mend it")[0] == "1.running_mean is not in the file and stays as it was made"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda w: w.pop("4.weight"), "no 4.weight"),
        (lambda w: w.update({"5.weight": torch.ones(2)}), "also 5.weight"),
        (lambda w: w.update({"4.weight": torch.ones(4, 72)}), r"4.weight \(4, 72\) where \(3, 72\) is expected"),
        (lambda w: [w.pop(key) for key in list(w)[:-1]], "no 0.bias"),
    ],
)
def test_other_weights_are_refused_and_nothing_is_filled(change, said) -> None:
    weights, fresh = OrderedDict(network().state_dict()), network()
    before = {key: value.clone() for key, value in fresh.state_dict().items()}
    change(weights)
    with pytest.raises(ForeignError, match=f"expected the weights of it, got others .*{said}.*; mend it"):
        fill(fresh, weights, "it", "mend it")
    assert all(torch.equal(value, before[key]) for key, value in fresh.state_dict().items())
