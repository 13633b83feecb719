"""LittleNet: the MNIST classifier of the input-aware attack ("Littenet" in the stealthy attack's Table 1)."""

from torch import nn

from btlib.networks.layers import Dropout, sequential


def littlenet(channels: int, size: int) -> tuple[nn.Sequential, int, dict[str, str]]:
    """Two 5×5 convolutions of 32 and 64 filters, one fully connected layer of 512: 582,026 parameters on MNIST.

    ReLU stands after dropout and pooling instead of before: the same function (a dropped value is 0 either
    way, and pooling keeps order) on a quarter of the numbers.
    """
    side = ((size - 4) // 2 - 4) // 2
    body = sequential(
        conv1=nn.Conv2d(channels, 32, 5), drop1=Dropout(0.1), pool1=nn.MaxPool2d(2), relu1=nn.ReLU(inplace=True),
        conv2=nn.Conv2d(32, 64, 5), drop2=Dropout(0.1), pool2=nn.MaxPool2d(2), relu2=nn.ReLU(inplace=True),
        flatten=nn.Flatten(),
        fc1=nn.Linear(64 * side * side, 512), drop3=Dropout(0.1), relu3=nn.ReLU(inplace=True),
    )  # fmt: skip
    return body, 512, {"conv2": "relu2", "conv1": "relu1"}
