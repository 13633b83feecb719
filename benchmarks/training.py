"""Images per second of btlib's training loop against the usual tutorial loop, in one run.

The tutorial loop is what most courses show: a DataLoader over torchvision's data set, each image converted
by PIL and ToTensor when it is asked for, batch 128, Adam at 1e-3, the layers in textbook order. Both train
the same architecture on the same images for the same number of epochs; rounds alternate, so that a change
of the machine's speed meets both. Ratios, not seconds, are what is claimed. The third number of a round is the bare
passes: steps of the same recipe on one batch that lies ready, which no loop over such a network can do without.

    python benchmarks/training.py --epochs 4 --rounds 3
"""

import argparse
import copy
import statistics
import time
from dataclasses import replace

import torch
import torchvision
from torch import nn

from btlib import datasets, metrics, networks, training
from btlib.results import environment, save
from btlib.training.device import has_bf16

TEXTBOOK = {
    "lenet5": lambda: nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    ),
    "littlenet": lambda: nn.Sequential(
        nn.Conv2d(1, 32, 5), nn.ReLU(), nn.Dropout(0.1), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 5), nn.ReLU(), nn.Dropout(0.1), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(1024, 512), nn.ReLU(), nn.Dropout(0.1), nn.Linear(512, 10),
    ),
}  # fmt: skip
BF16 = ", bf16"  # after the name of a recipe: in that precision
#: Recipe → network.
RECIPES = {
    "lenet5": "lenet5",
    "lenet5-large-batch": "lenet5",
    "littlenet": "littlenet",
    "littlenet" + BF16: "littlenet",
}


def textbook(network: networks.Network, name: str = "lenet5") -> nn.Module:
    """A network of ours as a tutorial writes it: the same weights and function, in torch's own layers."""
    plain = TEXTBOOK[name]()
    state = [p for _, p in sorted(network.named_parameters(), key=lambda item: item[0].startswith("head"))]
    with torch.no_grad():
        for ours, theirs in zip(plain.parameters(), state, strict=True):
            ours.copy_(theirs)
    return nn.Sequential(network.normalize, plain).eval()


def of_torchs_layers(network: networks.Network) -> networks.Network:
    """The same LeNet-5 with its features, convolutions and poolings torch's own."""
    plain, conv1 = copy.deepcopy(network), nn.Conv2d(1, 6, 5, padding=2)
    conv1.load_state_dict(network.body.conv1.state_dict())
    plain.body.conv1, plain.body.pool2 = nn.Sequential(conv1, nn.MaxPool2d(2)), nn.MaxPool2d(2)
    return plain


def tutorial(name: str, data: datasets.ImageDataset, epochs: int, seed: int) -> tuple[float, float]:
    """Train the usual way; returns images per second and test accuracy."""
    torch.manual_seed(seed)
    root = next(root for root in datasets.roots() if (root / "FashionMNIST").exists())
    source = torchvision.datasets.FashionMNIST(str(root), transform=torchvision.transforms.ToTensor())
    images = torch.utils.data.Subset(source, range(len(data.y_train)))
    loader = torch.utils.data.DataLoader(images, batch_size=128, shuffle=True)
    network = TEXTBOOK[name]()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    started = time.perf_counter()
    for _ in range(epochs):
        network.train()
        for batch, labels in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(batch), labels).backward()
            optimizer.step()
    seconds = time.perf_counter() - started
    return epochs * len(images) / seconds, metrics.accuracy(network, data.x_test, data.y_test)


def recipe_of(name: str, epochs: int) -> training.Recipe:
    """The recipe of that name for so many epochs."""
    recipe = training.RECIPES[name.removesuffix(BF16)]
    return replace(recipe, epochs=epochs, precision="bf16" if name.endswith(BF16) else recipe.precision)


def ours(recipe_name: str, data: datasets.ImageDataset, epochs: int, seed: int) -> tuple[float, float]:
    """Train with btlib's recipe of that name; returns images per second and test accuracy."""
    recipe = recipe_of(recipe_name, epochs)
    network = networks.build(RECIPES[recipe_name], data, seed=seed)
    started = time.perf_counter()
    training.fit(network, data, recipe, seed=seed, progress=False, device="cpu")
    seconds = time.perf_counter() - started
    return epochs * len(data.y_train) / seconds, metrics.accuracy(network, data.x_test, data.y_test)


def passes(recipe_name: str, data: datasets.ImageDataset, epochs: int, seed: int) -> float:
    """Images per second of the recipe's steps alone: there and back and the optimiser, on a batch that lies ready."""
    recipe = recipe_of(recipe_name, epochs)
    network = networks.build(RECIPES[recipe_name], data, seed=seed)
    stage = training.Fitting(network, data, recipe, seed=seed, device=torch.device("cpu"))
    first, steps = stage.start(1)[0], epochs * stage.steps
    x, y = datasets.to_float(data.x_train[first]).contiguous(memory_format=stage.format), data.y_train[first]
    started = time.perf_counter()
    for _ in range(steps):
        with training.in_precision(recipe.precision, x.device):
            loss = nn.functional.cross_entropy(network(x), y)
        stage.optimizer.zero_grad()
        loss.backward()
        stage.optimizer.step()
    return steps * len(y) / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=60_000, help="training images, the first of the set")
    usual = [name for name in RECIPES if has_bf16(torch.device("cpu")) or not name.endswith(BF16)]
    parser.add_argument("--recipes", nargs="+", default=usual, choices=list(RECIPES))
    parser.add_argument("--out", default="results/benchmark-training.json")
    settings = parser.parse_args()

    data = datasets.load("fashion-mnist")
    data = replace(data, x_train=data.x_train[: settings.images], y_train=data.y_train[: settings.images])
    rows = {}
    header = ("recipe", "tutorial img/s", "btlib img/s", "ratio", "of passes", "tutorial acc.", "btlib acc.")
    print("{:<18} {:>15} {:>12} {:>6} {:>10} {:>14} {:>11}".format(*header))
    for name in settings.recipes:
        rounds = [(tutorial(RECIPES[name], data, settings.epochs, seed), ours(name, data, settings.epochs, seed),
                   passes(name, data, settings.epochs, seed)) for seed in range(settings.rounds)]  # fmt: skip
        slow, fast = ([each[side][0] for each in rounds] for side in (0, 1))
        plain, better = ([each[side][1] for each in rounds] for side in (0, 1))
        bare = [each[2] for each in rounds]
        ratios = [b / a for a, b in zip(slow, fast, strict=True)]
        share = statistics.median(b / c for b, c in zip(fast, bare, strict=True))
        rows[name] = {
            "tutorial_images_per_second": slow, "btlib_images_per_second": fast, "ratios": ratios,
            "bare_images_per_second": bare, "share_of_bare_passes": share,
            "median_ratio": statistics.median(ratios), "tutorial_accuracy": plain, "btlib_accuracy": better,
        }  # fmt: skip
        speeds = f"{statistics.median(slow):>15,.0f} {statistics.median(fast):>12,.0f}"
        shares = f"{statistics.median(ratios):>6.2f} {share:>10.0%}"
        print(f"{name:<18} {speeds} {shares} {statistics.mean(plain):>14.4f} {statistics.mean(better):>11.4f}")
    save(settings.out, {"benchmark": "training", "settings": vars(settings), "rows": rows, **environment()})


if __name__ == "__main__":
    main()
