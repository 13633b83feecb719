"""VGG-9 (L-RED A.8.2) and VGG-16 (in-flight 5.3)."""

from torch import nn

from btlib.networks.layers import Dropout, sequential


def vgg9(channels: int, size: int) -> tuple[nn.Sequential, int, dict[str, str]]:
    """VGG-11 without its last two convolutions, with 16, 32, 64, 64, 128, 128 filters, then 512 and 512 (L-RED A.8.2).

    The paper does not give the width of the fully connected layers, nor whether a pooling goes with the
    convolutions removed; see docs/choices.md.
    """
    layers: dict[str, nn.Module] = {}
    side, inputs = size, channels
    for number, (filters, pool) in enumerate([(16, 1), (32, 1), (64, 0), (64, 1), (128, 0), (128, 1)], 1):
        layers[f"conv{number}"] = nn.Conv2d(inputs, filters, 3, padding=1)
        if pool:
            layers[f"pool{number}"] = nn.MaxPool2d(2)
            side //= 2
        layers[f"relu{number}"] = nn.ReLU(inplace=True)
        inputs = filters
    body = sequential(
        **layers, flatten=nn.Flatten(),
        fc1=nn.Linear(inputs * side * side, 512), drop1=Dropout(0.5), relu7=nn.ReLU(inplace=True),
        fc2=nn.Linear(512, 512), drop2=Dropout(0.5), relu8=nn.ReLU(inplace=True),
    )  # fmt: skip
    return body, 512, {f"conv{n}": f"relu{n}" for n in (6, 5, 4, 3, 2, 1)}


def vgg16(channels: int, size: int) -> tuple[nn.Sequential, int, dict[str, str]]:
    """torchvision's VGG-16 with batch normalisation; the classifier's input follows the image size."""
    from torchvision.models import vgg16_bn

    cells = max(1, min(7, size // 32))
    features = vgg16_bn(weights=None).features
    if channels != 3:
        features[0] = nn.Conv2d(channels, 64, 3, padding=1)
    body = sequential(
        convolutions=features, pool=nn.AdaptiveAvgPool2d(cells), flatten=nn.Flatten(),
        fc1=nn.Linear(512 * cells * cells, 4096), drop1=Dropout(0.5), relu1=nn.ReLU(inplace=True),
        fc2=nn.Linear(4096, 4096), drop2=Dropout(0.5), relu2=nn.ReLU(inplace=True),
    )  # fmt: skip
    rectified = [i for i, layer in enumerate(features) if isinstance(layer, nn.ReLU)]
    deepest = dict(zip((13, 12, 11, 10), reversed(rectified[-4:]), strict=True))
    return body, 4096, {f"conv{n}": f"convolutions.{i}" for n, i in deepest.items()}
