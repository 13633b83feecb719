"""The architectures of backdoored networks that other people published, written from their descriptions."""

from torch import Tensor, nn


class EluVgg(nn.Module):
    """I-BAU's CIFAR-10 classifier: three blocks of two convolutions with batch norm and ELU, one linear layer."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for channels, filters, drop in ((3, 32, 0.2), (32, 64, 0.3), (64, 128, 0.4)):
            layers += [
                nn.Conv2d(channels, filters, 3, padding=1), nn.BatchNorm2d(filters), nn.ELU(inplace=True),
                nn.Conv2d(filters, filters, 3, padding=1), nn.BatchNorm2d(filters), nn.ELU(inplace=True),
                nn.MaxPool2d(2), nn.Dropout(drop),
            ]  # fmt: skip
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(2048, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        return self.classifier(x.view(x.size(0), -1))  # as published: `view` wants contiguous memory


class SoftmaxCnn(nn.Module):
    """badnets-pytorch's MNIST classifier: two convolutions with average pooling, two linear layers, a softmax."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(nn.Conv2d(1, 16, 5), nn.ReLU(), nn.AvgPool2d(2))
        self.conv2 = nn.Sequential(nn.Conv2d(16, 32, 5), nn.ReLU(), nn.AvgPool2d(2))
        self.fc1 = nn.Sequential(nn.Linear(512, 512), nn.ReLU())
        self.fc2 = nn.Sequential(nn.Linear(512, classes), nn.Softmax(dim=-1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv2(self.conv1(x))
        return self.fc2(self.fc1(x.view(x.size(0), -1)))
