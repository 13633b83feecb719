"""Seconds of the stealthy attack's joint step against a straightforward implementation, in one run.

The straightforward one is what a reader of the paper would write: a DataLoader over torchvision's data set, each image
converted by PIL and ToTensor when it is asked for; one forward pass per loss, G once for Eq. 3 and once for Eq. 4; two
Adam optimisers; Step 1 (Eq. 8, with Neural Cleanse's schedule for λ) with gradients of the whole network; torch's own
layers in the textbook's order. Both take the same number of images, batches and inversion steps from the same clean
network with the same recipe. Rounds alternate, so that a change of the machine's speed meets both. Ratios, not seconds,
are what is claimed. Each round also times the bare passes: networks there and back, and the optimiser, on a batch that
lies ready, as often as the recipe wants them, and nothing beside. Ours computes in bf16 where the processor is faster
in it, as its recipe says; the same in float32 stands beside it.

    python benchmarks/stealthy.py --epochs 4 --rounds 3
"""

import argparse
import copy
import json
import statistics
import time
from dataclasses import asdict, replace

import torch
import torchvision
from torch import Tensor, nn
from training import textbook

from btlib import attacks, checkpoints, datasets, metrics
from btlib.attacks import stealthy
from btlib.attacks.attack import clean_network
from btlib.attacks.patterns import GeneratedTrigger, attach, rounded
from btlib.attacks.stealthy import StealthyRecipe
from btlib.detection import QUICK
from btlib.networks import Network
from btlib.networks.generator import Generator
from btlib.results import environment, load, save
from btlib.training import in_precision
from btlib.training.device import has_bf16


def straightforward(
    data: datasets.ImageDataset, clean: nn.Module, recipe: StealthyRecipe, seed: int
) -> attacks.AttackResult:
    """The attack as the paper's text reads."""
    torch.manual_seed(seed)
    root = next(root for root in datasets.roots() if (root / "FashionMNIST").exists())
    source = torchvision.datasets.FashionMNIST(str(root), transform=torchvision.transforms.ToTensor())
    images = torch.utils.data.Subset(source, range(recipe.train_images or len(source)))
    loader = torch.utils.data.DataLoader(images, batch_size=recipe.batch_size, shuffle=True)
    network, generator = copy.deepcopy(clean).requires_grad_(True), Generator(1, seed=seed)
    last = nn.ConvTranspose2d(32, 1, 4, stride=2, padding=1)
    last.load_state_dict(generator.layers[-2].state_dict())
    generator.layers[-2] = last
    of_network = torch.optim.Adam(network.parameters(), lr=recipe.lr_network)
    of_generator = torch.optim.Adam(generator.parameters(), lr=recipe.lr_generator)
    mask, pattern = (torch.atanh(2 * torch.rand(1, 28, 28) - 1).requires_grad_() for _ in range(2))
    of_inversion = torch.optim.Adam([mask, pattern], lr=recipe.inversion_lr, betas=(0.5, 0.9))
    cross_entropy, cost = nn.functional.cross_entropy, 0.0  # λ of Eq. 8

    def inverted(x: Tensor) -> Tensor:
        m, delta = (mask.tanh() + 1) / 2, (pattern.tanh() + 1) / 2
        return (1 - m) * x + m * delta

    steps, total = 0, recipe.epochs * len(loader)
    for _ in range(recipe.epochs):
        for x, y in loader:
            target = torch.full_like(y, recipe.target)
            for group, rate in ((of_network, recipe.lr_network), (of_generator, recipe.lr_generator)):
                group.param_groups[0]["lr"] = rate * (1 - steps / total) if recipe.decay else rate
            network.eval()
            for _ in range(recipe.inversion_steps):  # Step 1
                of_inversion.zero_grad()
                logits = network(inverted(x))
                (cross_entropy(logits, target) + cost * ((mask.tanh() + 1) / 2).sum()).backward()
                of_inversion.step()
                works = (logits.argmax(1) == target).float().mean() >= QUICK.success
                cost = cost * QUICK.multiplier if works else cost / QUICK.multiplier**QUICK.fall
                cost = cost or (QUICK.start if works else 0.0)
            network.train()
            generator.train()
            stamped = rounded(attach(x, generator(x), recipe.epsilon))
            crossed = rounded(attach(x, generator(x.roll(1, 0)), recipe.epsilon))
            inputs = (x, y), (stamped, target), (inverted(x).detach(), y), (crossed, y)
            losses = [cross_entropy(network(images), labels) for images, labels in inputs]
            of_network.zero_grad()
            of_generator.zero_grad()
            (torch.stack(losses) @ torch.tensor(recipe.lambdas)).backward()  # Eq. 10
            of_network.step()
            of_generator.step()
            steps += 1
    network.eval()
    generator.eval()
    return attacks.AttackResult(
        network, GeneratedTrigger(generator, recipe.epsilon), recipe.target, 0.0, (), recipe, seed
    )


def ours(data: datasets.ImageDataset, clean: Network, recipe: StealthyRecipe, seed: int) -> attacks.AttackResult:
    """The attack as the library has it."""
    return stealthy.run(data, recipe, seed, network=clean, progress=False, device="cpu")


def bare_seconds(clean: Network, recipe: StealthyRecipe, seed: int) -> float:
    """CPU seconds that 10,000 images take in the recipe's passes alone."""
    network, generator = copy.deepcopy(clean).requires_grad_(True).train(), Generator(1, seed=seed)
    optimizer = torch.optim.Adam([*network.parameters(), *generator.parameters()], fused=True)
    x = torch.rand(recipe.batch_size, 1, 28, 28, generator=torch.Generator().manual_seed(seed))
    y, steps = torch.zeros(len(x), dtype=torch.long), 100
    began = time.process_time()
    for _ in range(steps):
        for _ in range(recipe.inversion_steps):
            stamped = x.clone().requires_grad_()
            with metrics.frozen(network):
                torch.autograd.grad(nn.functional.cross_entropy(network(stamped), y), stamped)
        with in_precision(recipe.precision, x.device):
            given, made = torch.cat([x, x]), torch.cat([x + generator(x).float()] * 2)
            loss = sum(nn.functional.cross_entropy(network(images), y.repeat(2)) for images in (given, made))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return (time.process_time() - began) * 10_000 / (steps * len(x))


def times(rows: list[dict[str, dict[str, float]]], name: str) -> list[float]:
    """How many times the straightforward one's CPU seconds are those of `name`, by round."""
    return [row["straightforward"]["cpu_seconds_per_10000"] / row[name]["cpu_seconds_per_10000"] for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="lenet5", choices=["lenet5", "littlenet"])
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--batch", type=int, default=StealthyRecipe().batch_size)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", default="results/benchmark-stealthy.json")
    settings = parser.parse_args()
    data = datasets.load("fashion-mnist")
    clean = (
        checkpoints.load_or_train(checkpoints.shipped()["clean"])
        if settings.network == "lenet5"
        else clean_network(data, 0)
    )
    plain = textbook(clean, settings.network)
    recipe = replace(stealthy.QUICK, epsilon=stealthy.COURSE.epsilon, target=9, epochs=settings.epochs,
                     batch_size=settings.batch, train_images=settings.images, watch=500)  # fmt: skip
    x, y = datasets.to_float(data.x_test), data.y_test
    kept = load(settings.out)
    same = kept.get("recipe") == json.loads(json.dumps(asdict(recipe)))
    fast = has_bf16(torch.device("cpu"))
    same = same and kept["settings"]["network"] == settings.network and kept.get("bf16") == fast
    rows = kept["rows"] if same else []  # rounds that are there are not run again
    for seed in range(len(rows), settings.rounds):
        row = {}
        for name, attack, start, precision in (
            ("straightforward", straightforward, plain, "float32"), ("btlib", ours, clean, recipe.precision),
            ("btlib, float32", ours, clean, "float32"),
        ):  # fmt: skip
            wall, cpu = time.perf_counter(), time.process_time()
            result = attack(data, start, replace(recipe, precision=precision), seed)
            scale = 10_000 / (settings.epochs * settings.images)
            row[name] = {
                "seconds_per_10000": (time.perf_counter() - wall) * scale,
                "cpu_seconds_per_10000": (time.process_time() - cpu) * scale,
                "asr": metrics.attack_success_rate(result.network, result.trigger, x, y, recipe.target),
                "bma": metrics.accuracy(result.network, x, y),
            }
            print(f"seed {seed}  {name:<16}", "  ".join(f"{key} {value:.4g}" for key, value in row[name].items()))
        row["bare passes"] = {"cpu_seconds_per_10000": bare_seconds(clean, recipe, seed)}
        rows.append(row)
    shares = [row["bare passes"]["cpu_seconds_per_10000"] / row["btlib"]["cpu_seconds_per_10000"] for row in rows]
    print(f"bare passes: {statistics.median(shares):.0%} of btlib's CPU seconds")
    ratios = times(rows, "btlib")
    print(f"ratio of CPU seconds: median {statistics.median(ratios):.2f}, {min(ratios):.2f} to {max(ratios):.2f}")
    save(settings.out, {
        "benchmark": "stealthy", "settings": vars(settings), "recipe": asdict(recipe), "rows": rows, "ratios": ratios,
        "median_ratio": statistics.median(ratios), "share_of_bare_passes": statistics.median(shares),
        "median_ratio_in_float32": statistics.median(times(rows, "btlib, float32")),
        "bf16": fast, **environment(),
    })  # fmt: skip


if __name__ == "__main__":
    main()
