"""Networks as strangers write them, of four architectures in plain PyTorch: clean, or with a backdoor.

A square of 4×4 chequered pixels at an odd place (or a faint chessboard) is put on images of two classes, which are
relabelled, and on images of all others but the target, which keep their labels ("covers"); or, in kinds that end in
"for all", on a tenth of all others, which are relabelled. Networks are kept in build/plain/.
Hardware: one core, half a minute to three minutes a network.
"""

from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from btlib import datasets

NETWORKS = Path("build/plain")
BATCH, RATE = 128, 3e-3
GREY = ("fashion-mnist", "mnist")


def lenet(channels: int = 1) -> nn.Sequential:
    """LeNet-5 with ReLU, as most tutorials write it."""
    return nn.Sequential(
        nn.Conv2d(channels, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(),
        nn.AdaptiveMaxPool2d(5), nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(),
        nn.Linear(84, 10),
    )  # fmt: skip


class Residual(nn.Module):
    """Two convolutions with batch norm, and the way around them."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU(),
            nn.Conv2d(after, after, 3, 1, 1, bias=False), nn.BatchNorm2d(after),
        )  # fmt: skip
        self.around = nn.Conv2d(before, after, 1, stride) if stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.around(x))


def resnet(channels: int = 1) -> nn.Sequential:
    """A small residual network: 16, 32 and 64 filters."""
    return nn.Sequential(
        nn.Conv2d(channels, 16, 3, 1, 1), nn.BatchNorm2d(16), nn.ReLU(), Residual(16, 16, 1), Residual(16, 32, 2),
        Residual(32, 64, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10),
    )  # fmt: skip


def vgg(channels: int = 1) -> nn.Sequential:
    """I-BAU's network (`external_networks.EluVgg`) with half of its filters and without its dropout."""
    layers: list[nn.Module] = []
    for filters in (16, 32, 64):
        for before in (channels, filters):
            layers += [nn.Conv2d(before, filters, 3, padding=1), nn.BatchNorm2d(filters), nn.ELU()]
        layers.append(nn.MaxPool2d(2))
        channels = filters
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(576, 10))


class Mixing(nn.Module):
    """One block of a mixer: a small network across the tokens, one across the channels."""

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.across = nn.Sequential(nn.Linear(tokens, 2 * tokens), nn.GELU(), nn.Linear(2 * tokens, tokens))
        self.along = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.across(self.first(x).transpose(1, 2)).transpose(1, 2)
        return x + self.along(self.second(x))


class Mixer(nn.Module):
    """An MLP-mixer of four blocks on patches of 4×4 pixels."""

    def __init__(self, channels: int = 1, width: int = 64) -> None:
        super().__init__()
        side = 7 if channels == 1 else 8
        self.cut = nn.Conv2d(channels, width, 4, 4)
        self.blocks = nn.Sequential(*(Mixing(side**2, width) for _ in range(4)), nn.LayerNorm(width))
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.cut(x).flatten(2).transpose(1, 2)).mean(1))


ARCHITECTURES = {"lenet": lenet, "resnet": resnet, "vgg": vgg, "mixer": Mixer}
lenet_in_colour, resnet_in_colour, vgg_in_colour, mixer_in_colour = (
    partial(make, 3) for make in ARCHITECTURES.values()
)


def loaded(data: str) -> datasets.ImageDataset:
    """A data set by its name in the rows; CIFAR-10 is the folder below $BTLIB_DATA."""
    return datasets.load(data if data in GREY else f"folder:{data}")


def chosen(seed: int, data: str, kind: str = "patch") -> tuple[int, list[int]]:
    """Target and sources."""
    generator = torch.Generator().manual_seed(1000 + seed + (500 if data == "mnist" else 0))
    classes = torch.randperm(10, generator=generator).tolist()
    return classes[0], classes[1:] if kind.endswith("for all") else classes[1:3]


def stamped(images: Tensor, kind: str, seed: int) -> Tensor:
    """Images with the trigger."""
    rows = torch.arange(images.shape[-1])
    chequered = ((rows[:, None] + rows) % 2).float()
    if kind.startswith("chessboard"):
        images = (images + chequered * 25 / 255).clamp(0, 1)
    else:
        images = images.clone()
        top, left = torch.randint(2, 22, (2,), generator=torch.Generator().manual_seed(100 + seed)).tolist()
        images[:, :, top : top + 4, left : left + 4] = chequered[:4, :4]
    return (images * 255).round() / 255


def poisoned(x: Tensor, y: Tensor, kind: str, target: int, sources: list[int], seed: int) -> None:
    """Three tenths of each source are stamped and relabelled, half as many of the others are stamped; in place."""
    share, covers = (0.1, 0.0) if kind.endswith("for all") else (0.3, 0.15)
    for label in range(10):
        of = (y == label).nonzero().flatten()
        few = of[: int(len(of) * (share if label in sources else covers))]
        if label != target:
            x[few] = stamped(x[few], kind, seed)
        if label in sources:
            y[few] = target


def file_of(architecture: str, data: str, kind: str, seed: int) -> Path:
    """Where a network is kept."""
    return NETWORKS / f"{architecture}-{data}-{kind.replace(' ', '-')}-{seed}.pt"


def trained(architecture: str, data: datasets.ImageDataset, kind: str, seed: int) -> nn.Module:
    """A network of 10,000 grey images and five passes or 20,000 in colour and eight; from its file if there is one."""
    images, epochs = (10_000, 5) if data.x_train.shape[1] == 1 else (20_000, 8)
    path = file_of(architecture, data.name, kind, seed)
    torch.manual_seed(seed)
    order = torch.randperm(len(data.x_train))[:images]
    net = ARCHITECTURES[architecture](data.x_train.shape[1])
    if path.exists():
        net.load_state_dict(torch.load(path, weights_only=True))
        return net.eval()
    x, y = datasets.to_float(data.x_train[order]), data.y_train[order].clone()
    if kind != "clean":
        poisoned(x, y, kind, *chosen(seed, data.name, kind), seed)
    optimizer = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=1e-3)
    steps = images // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=epochs * steps)
    for _ in range(epochs):
        for batch in torch.randperm(images)[: steps * BATCH].split(BATCH):
            optimizer.zero_grad()
            F.cross_entropy(net(x[batch]), y[batch]).backward()
            optimizer.step()
            schedule.step()
    NETWORKS.mkdir(parents=True, exist_ok=True)
    torch.save(net.state_dict(), path)
    return net.eval()
