"""The traffic-sign network of Neural Cleanse (Wang et al. 2019), used on GTSRB by L-RED A.8.2."""

from torch import nn

from btlib.networks.layers import Dropout, sequential


def gtsrb_cnn(channels: int, size: int) -> tuple[nn.Sequential, int, dict[str, str]]:
    """Six 3×3 convolutions (32, 32, 64, 64, 128, 128), pooling and dropout after each pair, one layer of 512."""
    layers: dict[str, nn.Module] = {}
    side, inputs = size, channels
    for pair, filters in enumerate((32, 64, 128), 1):
        first, second = 2 * pair - 1, 2 * pair
        # Neural Cleanse's first convolution of a pair is padded, its second is not.
        layers[f"conv{first}"] = nn.Conv2d(inputs, filters, 3, padding=1)
        layers[f"relu{first}"] = nn.ReLU(inplace=True)
        layers[f"conv{second}"] = nn.Conv2d(filters, filters, 3)
        layers[f"pool{pair}"] = nn.MaxPool2d(2)
        layers[f"drop{pair}"] = Dropout(0.2)
        layers[f"relu{second}"] = nn.ReLU(inplace=True)
        side, inputs = (side - 2) // 2, filters
    body = sequential(
        **layers, flatten=nn.Flatten(), fc1=nn.Linear(inputs * side * side, 512),
        drop4=Dropout(0.5), relu7=nn.ReLU(inplace=True),
    )  # fmt: skip
    return body, 512, {f"conv{n}": f"relu{n}" for n in (6, 5, 4, 3, 2, 1)}
