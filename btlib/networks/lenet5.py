"""LeNet-5 (LeCun et al. 1998), with ReLU and max pooling as L-RED A.8.2 and in-flight 5.3 use it."""

from torch import nn

from btlib.networks.layers import MaxPool2, PooledConv2d, sequential


def lenet5(channels: int, size: int) -> tuple[nn.Sequential, int, dict[str, str]]:
    """Two 5×5 convolutions and fully connected layers of 120 and 84: 61,706 parameters on 28×28 greys.

    Pooling stands before ReLU, which is the same function (both keep order) on a quarter of the numbers.
    """
    padding = 2 if size < 32 else 0  # LeCun's 32×32 frame around a 28×28 digit
    side = ((size + 2 * padding - 4) // 2 - 4) // 2
    body = sequential(
        conv1=PooledConv2d(channels, 6, 5, padding=padding), relu1=nn.ReLU(inplace=True),
        conv2=nn.Conv2d(6, 16, 5), pool2=MaxPool2(), relu2=nn.ReLU(inplace=True),
        flatten=nn.Flatten(),
        fc1=nn.Linear(16 * side * side, 120), relu3=nn.ReLU(inplace=True),
        fc2=nn.Linear(120, 84), relu4=nn.ReLU(inplace=True),
    )  # fmt: skip
    return body, 84, {"fc1": "relu3", "conv2": "relu2", "conv1": "relu1"}
