"""ResNet, MobileNetV2 and DenseNet: torchvision's own, with the first layers fitted to small images.

At 32×32 the ImageNet stem (stride 2 and pooling) would throw away three quarters of the pixels before
the first block; the usual CIFAR form replaces it by one 3×3 convolution of stride 1. Images of 96 pixels
and more keep torchvision's stem. torchvision takes a second to import, so each function imports what it builds.
"""

from typing import TYPE_CHECKING

from torch import nn

from btlib.networks.layers import sequential

if TYPE_CHECKING:
    from torchvision.models import ResNet

_LARGE = 96


def _resnet(model: "ResNet", channels: int, size: int) -> tuple[nn.Sequential, int, dict[str, str]]:
    small = size < _LARGE
    if small or channels != 3:
        kernel, stride, padding = (3, 1, 1) if small else (7, 2, 3)
        model.conv1 = nn.Conv2d(channels, 64, kernel, stride, padding, bias=False)
    stem = {"conv1": model.conv1, "bn1": model.bn1, "relu": model.relu}
    if not small:
        stem["maxpool"] = model.maxpool
    body = sequential(
        **stem, layer1=model.layer1, layer2=model.layer2, layer3=model.layer3, layer4=model.layer4,
        pool=model.avgpool, flatten=nn.Flatten(),
    )  # fmt: skip
    blocks = len(model.layer4)
    places = [f"layer4.{block}.bn{part}" for block in (blocks - 1, blocks - 2) for part in (2, 1)]
    return body, model.fc.in_features, {f"conv-{i}": place for i, place in enumerate(places, 1)}


def resnet18(channels: int, size: int) -> tuple[nn.Sequential, int, dict[str, str]]:
    """ResNet-18 (He et al. 2016; L-RED 4.2, in-flight 5.1, stealthy 3). `conv-1` … `conv-4` count from the end."""
    from torchvision.models import resnet18 as published

    return _resnet(published(weights=None), channels, size)


def resnet34(channels: int, size: int) -> tuple[nn.Sequential, int, dict[str, str]]:
    """ResNet-34 (He et al. 2016; L-RED A.8.2, CIFAR-100)."""
    from torchvision.models import resnet34 as published

    return _resnet(published(weights=None), channels, size)


def mobilenet_v2(channels: int, size: int) -> tuple[nn.Sequential, int, dict[str, str]]:
    """MobileNetV2 (Sandler et al. 2018; L-RED A.7.2, group B): three of the five strides are 1 at 32×32."""
    from torchvision.models import mobilenet_v2 as published

    small = size < _LARGE
    # expansion, channels, repeats, stride
    setting = [[1, 16, 1, 1], [6, 24, 2, 1 if small else 2], [6, 32, 3, 2], [6, 64, 4, 2],
               [6, 96, 3, 1], [6, 160, 3, 2], [6, 320, 1, 1]]  # fmt: skip
    model = published(weights=None, inverted_residual_setting=setting)
    if small or channels != 3:
        model.features[0][0] = nn.Conv2d(channels, 32, 3, 1 if small else 2, 1, bias=False)
    last = len(model.features) - 1
    body = sequential(blocks=model.features, pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten())
    return body, model.last_channel, {f"conv-{i + 1}": f"blocks.{last - i}" for i in range(4)}


def densenet(channels: int, size: int) -> tuple[nn.Sequential, int, dict[str, str]]:
    """DenseNet-BC with 100 layers and growth 12 (Huang et al. 2017; L-RED A.7.2, group C)."""
    from torchvision.models import DenseNet

    model = DenseNet(growth_rate=12, block_config=(16, 16, 16), num_init_features=24)
    small = size < _LARGE
    if small or channels != 3:
        kernel, stride, padding = (3, 1, 1) if small else (7, 2, 3)
        model.features.conv0 = nn.Conv2d(channels, 24, kernel, stride, padding, bias=False)
    if small:
        del model.features.pool0
    body = sequential(
        blocks=model.features, relu=nn.ReLU(inplace=True), pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten()
    )
    places = [f"blocks.denseblock3.denselayer{16 - i}" for i in range(4)]
    return body, model.classifier.in_features, {f"conv-{i}": place for i, place in enumerate(places, 1)}
