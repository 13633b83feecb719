"""The same numbers: bit by bit in any order of calls, within a tolerance with other threads or another PyTorch."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from toys import TARGET, toy_data

from btlib import attacks, detection, inflight, metrics, networks, poisoning, repair, training, triggers
from btlib.networks import Network
from btlib.training import Recipe
from reliability.processes import roots

DATA = toy_data(train=240, test=60)
PIXEL = triggers.box(DATA.image_shape)
BRIEF = Recipe(epochs=6, batch_size=16, lr=3e-3)
#: Largest difference of a share (accuracy, success) and of a size (relative), with other threads or another PyTorch.
SHARES, SIZES = 0.05, 0.05
OTHER = "BTLIB_OTHER_PYTHON"  # a Python with another PyTorch and btlib's other dependencies


def network(trigger: bool = True) -> Network:
    """Trained anew: nothing is shared between two calls but what the library itself shares."""
    data = poisoning.poison(DATA, PIXEL, target=TARGET, per_class=20, seed=0) if trigger else DATA
    net = networks.build("lenet5", DATA, seed=0)
    training.fit(net, data, BRIEF, seed=0, device="cpu")
    return net.eval()


def judged(net: nn.Module, trigger: Callable[[Tensor], Tensor], *bits: Tensor) -> tuple[list[Tensor], dict[str, float]]:
    """Weights, and shares measured on test images."""
    with torch.no_grad():
        shares = {"accuracy": metrics.accuracy(net, DATA.x_test, DATA.y_test),
                  "success": metrics.attack_success_rate(net, trigger, DATA.x_test, DATA.y_test, TARGET)}  # fmt: skip
    return [*net.state_dict().values(), *bits], shares


def attacked(recipe: attacks.AttackRecipe) -> tuple[list[Tensor], dict[str, float]]:
    """An attack from a clean network."""
    result = attacks.run(DATA, recipe, network=network(False), device="cpu")
    return judged(result.network, result.trigger)


def found(detector: Any) -> tuple[list[Tensor], dict[str, float]]:
    """A detection on the backdoored network."""
    outcome = detector(network(), DATA.x_test, DATA.y_test)
    sizes = torch.as_tensor(outcome.norms)
    return [sizes], {f"size {label}": float(size) for label, size in enumerate(sizes)}


def flagged(detector: Any) -> tuple[list[Tensor], dict[str, float]]:
    """Scores of an in-flight detector: how well they part images from triggers."""
    detector.fit(network(), DATA.x_test, DATA.y_test, target=TARGET, trigger=PIXEL)
    rates = inflight.measure_rates(detector, DATA.x_test, DATA.y_test, trigger=PIXEL)
    return [detector.scores(PIXEL(DATA.x_test))], {"auc": float(rates.roc.auc)}


def repaired() -> tuple[list[Tensor], dict[str, float]]:
    """A repair by fine-tuning."""
    outcome = repair.FineTuning(BRIEF)(network(), DATA.x_test, DATA.y_test, seed=0)
    return judged(outcome.network, PIXEL)


# Attacks that succeed, since that is what may be compared: while the input-aware one is still learning its masks, the
# last digit of a sum decides within thirty steps which way it goes.
STEALTHY = attacks.stealthy.StealthyRecipe(target=TARGET, epsilon=0.5, epochs=4, watch=30, batch_size=16)
INPUT_AWARE = attacks.input_aware.InputAwareRecipe(
    target=TARGET, epochs=5, batch_size=16, watch=30, attack_rate=0.4, density=0.5, mask_norm=1.0, diversity=0.1,
    lr_generator=2e-3, network_drops=(4,),
)  # fmt: skip
INVISIBLE = attacks.invisible.InvisibleRecipe(target=TARGET, steps=20, per_class=10, training=BRIEF, watch=30)
CALLS: dict[str, Callable[[], tuple[list[Tensor], dict[str, float]]]] = {
    "training": lambda: judged(network(), PIXEL),
    "stealthy attack": lambda: attacked(STEALTHY),
    "input-aware attack": lambda: attacked(INPUT_AWARE),
    "invisible attack": lambda: attacked(INVISIBLE),
    "RED-U": lambda: found(detection.RedU()),
    "Neural Cleanse": lambda: found(detection.NeuralCleanse(
        per_class=10, inversion=replace(detection.QUICK, rounds=60))),
    "in-flight likelihoods": lambda: flagged(inflight.LikelihoodDetector()),
    "in-flight STRIP": lambda: flagged(inflight.StripDetector(overlays=8)),
    "repair by fine-tuning": repaired,
}  # fmt: skip


def measure(threads: int = 1, backwards: bool = False) -> dict[str, dict[str, Any]]:
    """Call → digest of its bits, and its numbers."""
    torch.set_num_threads(threads)
    told = {}
    for name in reversed(CALLS) if backwards else CALLS:
        tensors, numbers = CALLS[name]()
        bits = hashlib.sha256(b"".join(tensor.detach().contiguous().numpy().tobytes() for tensor in tensors))
        told[name] = {"bits": bits.hexdigest(), "numbers": numbers}
    return told


def apart(threads: int = 1, backwards: bool = False, python: str = sys.executable) -> dict[str, Any]:
    """`measure` in a Python of its own."""
    path = os.pathsep.join(map(str, roots()))
    done = subprocess.run(
        [python, "-m", "reliability.same_numbers", str(threads), str(int(backwards))], capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": str(threads), "TQDM_DISABLE": "1"},
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"numbers: {python} ended with {done.returncode}: {done.stderr[-500:]}")
    return json.loads(done.stdout)


def differences(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, dict[str, float]]:
    """For each call the largest difference of a share, and of a size, relative to ours."""
    told = {}
    for name, one in ours["calls"].items():
        pairs = [(key, value, theirs["calls"][name]["numbers"][key]) for key, value in one["numbers"].items()]
        sizes = [abs(b - a) / abs(a) for key, a, b in pairs if key.startswith("size")]
        shares = [abs(b - a) for key, a, b in pairs if not key.startswith("size")]
        told[name] = {"share": max(shares, default=0.0), "size": max(sizes, default=0.0)}
    return told


def other_bits(ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    """The calls that gave other bits."""
    return sorted(name for name, one in ours["calls"].items() if one["bits"] != theirs["calls"][name]["bits"])


def run() -> dict[str, Any]:
    """All comparisons."""
    ours = apart()
    told: dict[str, Any] = {"torch": ours["torch"], "tolerance": {"share": SHARES, "size": SIZES}}
    other_order, two = apart(backwards=True), apart(threads=2)
    told["other bits in another order"] = other_bits(ours, other_order)
    told["other bits with two threads"] = other_bits(ours, two)
    told["two threads"] = differences(ours, two)
    if python := os.environ.get(OTHER):
        other = apart(python=python)
        told["another torch"], told["other"] = other["torch"], differences(ours, other)
    each = [*told["two threads"].values(), *told.get("other", {}).values()]
    told["wrong"] = told["other bits in another order"] + [
        f"{one} differs by more than is stated" for one in each if one["share"] > SHARES or one["size"] > SIZES
    ]
    return told


if __name__ == "__main__":
    calls = measure(int(sys.argv[1]), bool(int(sys.argv[2])))
    print(json.dumps({"torch": torch.__version__, "calls": calls}))
