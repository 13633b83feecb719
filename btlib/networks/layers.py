"""What all networks share: normalisation inside, a body, a linear head, and named feature layers."""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from btlib.datasets import Shape
from btlib.datasets.images import usual_strides


class Normalize(nn.Module):
    """(x - mean) / std per channel: the first layer of every network, so that images stay in [0, 1] outside."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean.reshape(1, -1, 1, 1).float().clone())
        self.register_buffer("std", std.reshape(1, -1, 1, 1).float().clone())

    def forward(self, x: Tensor) -> Tensor:
        """Images in [0, 1] → normalised images, same shape."""
        if not x.is_floating_point():
            raise TypeError(f"images: expected floats in [0, 1], got {x.dtype}; use btlib.datasets.to_float(images)")
        return (x - self.mean) / self.std


class Dropout(nn.Module):
    """Dropout whose CPU masks are made from random bytes, in place.

    torch's own draws one Bernoulli number per element, which was a third of LittleNet's training time; here a
    byte decides one element, so p is rounded to a multiple of 1/256 (0.1 → 26/256). Elsewhere than on a CPU it
    is torch's own. It overwrites its input, so it stands behind a convolution or a linear layer, not behind ReLU.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"p: expected a probability in [0, 1), got {p}; 0.5 is usual for fully connected layers")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Drop and rescale when training; the identity otherwise."""
        dropped = round(256 * self.p)
        if not self.training or dropped == 0:
            return x
        if x.device.type != "cpu":
            return nn.functional.dropout(x, self.p, inplace=True)
        seed = int(torch.randint(2**62, ()))  # follows torch's seed
        words = np.random.Generator(np.random.SFC64(seed)).integers(2**64, size=-(-x.numel() // 8), dtype=np.uint64)
        kept = torch.from_numpy(words.view(np.uint8))[: x.numel()].clamp_(dropped - 1, dropped).sub_(dropped - 1)
        mask = kept.to(x.dtype).mul_(256 / (256 - dropped))
        if x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last):  # the mask takes the layout of x
            n, c, h, w = x.shape
            return x.mul_(mask.view(n, h, w, c).permute(0, 3, 1, 2))
        return x.mul_(mask.view(x.shape))

    def extra_repr(self) -> str:
        """What `print(network)` shows of it."""
        return f"p={self.p}"


class PooledConv2d(nn.Conv2d):
    """A convolution with an odd kernel and the 2×2 maximum pooling behind it, in one layer.

    On a CPU the four pixels of each pooling window are made as four groups of channels, by one convolution of
    stride 2 whose kernels are the given ones moved by a pixel; pooling is then a maximum of four tensors. Where
    images and filters are few that is faster, and where the images need a gradient (every detector) still more.

    Args:
        channels, filters: of the input and the output.
        kernel_size: odd.
        padding: zeros around the image.

    Raises:
        ValueError: an even kernel.

    Example:
        >>> PooledConv2d(1, 6, 5, padding=2)(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 6, 14, 14])
    """

    def __init__(self, channels: int, filters: int, kernel_size: int, padding: int = 0) -> None:
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size: expected an odd number, got {kernel_size}; use nn.Conv2d and nn.MaxPool2d")
        super().__init__(channels, filters, kernel_size, padding=padding)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W) → (N, filters, h, w), half the size of the convolution's output."""
        if x.device.type != "cpu" or _is_read():
            return _pooled(super().forward(x), self.training)
        return _MaxOfFour.apply(self.windows(x), _groups)

    def windows(self, x: Tensor) -> Tensor:
        """The convolution before pooling, (N, 4 · filters, h, w): a group of channels per pixel of the windows.

        It is affine in `x`; the maximum over the four groups is what `forward` returns.
        """
        moved = [F.pad(self.weight, (right, 1 - right, down, 1 - down)) for down in (0, 1) for right in (0, 1)]
        x, weight = usual_strides(x), usual_strides(torch.cat(moved))
        bias = self.bias.repeat(4)  # type: ignore[union-attr]
        if not (x.requires_grad and torch.is_grad_enabled()):
            return F.conv2d(x, weight, bias, stride=2, padding=self.padding)
        # The same sums with the pixels of each 2×2 square as channels: libraries are slow at the gradient for an
        # image of one channel.
        around = int(self.padding[0])
        below, right = around - x.shape[2] % 2, around - x.shape[3] % 2
        squares = F.pixel_unshuffle(F.pad(x, (around, right, around, below)), 2)
        return F.conv2d(squares, F.pixel_unshuffle(weight, 2), bias)


class MaxPool2(nn.Module):
    """2×2 maximum pooling; on a CPU as maxima of whole tensors, a third of the time of torch's own.

    Example:
        >>> MaxPool2()(torch.zeros(2, 6, 11, 10)).shape
        torch.Size([2, 6, 5, 5])
    """

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) → (N, C, H//2, W//2)."""
        return _pooled(x, self.training)


def _pooled(x: Tensor, training: bool) -> Tensor:
    """Maxima of 2×2 pixels; of ties the first, but while a GPU trains: there torch's own is faster, and will do."""
    on_gpu = x.device.type != "cpu" and (training or not (x.requires_grad and torch.is_grad_enabled()))
    if on_gpu or _is_read():
        return F.max_pool2d(x, 2)
    return _MaxOfFour.apply(x[..., : x.shape[2] // 2 * 2, : x.shape[3] // 2 * 2], _pixels)


def _is_read() -> bool:
    """Whether others will read the steps: then they are the textbook's."""
    return torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None


def _groups(x: Tensor) -> tuple[Tensor, ...]:
    return x.chunk(4, 1)


def _pixels(x: Tensor) -> tuple[Tensor, ...]:
    return tuple(x[..., down::2, right::2] for down in (0, 1) for right in (0, 1))


#: Differences below it are ties. Over a plain background all four pixels of a window are equal but for rounding, and
#: without it the rounding of one processor would decide which of them a detector paints.
_TIE = 1e-5


class _MaxOfFour(torch.autograd.Function):
    """The largest of four parts of a tensor, element by element; of equals, the first gets the gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, split: Callable[[Tensor], tuple[Tensor, ...]]) -> Tensor:
        a, b, c, d = split(x)
        first, last = torch.maximum(a, b), torch.maximum(c, d)
        ctx.split, ctx.shape = split, x.shape
        if ctx.needs_input_grad[0]:  # differences, not masks: comparisons of floats are slow, and so is bool × float
            ctx.save_for_backward(b - a, d - c, last - first)
        return torch.maximum(first, last)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        b_over_a, d_over_c, last_over_first = ctx.saved_tensors
        where_larger = torch.ops.aten.threshold_backward
        result = gradient.new_empty(ctx.shape)
        a, b, c, d = ctx.split(result)
        last = where_larger(gradient, last_over_first, _TIE)
        first = gradient - last
        where_larger.grad_input(first, b_over_a, _TIE, grad_input=b)
        torch.sub(first, b, out=a)
        where_larger.grad_input(last, d_over_c, _TIE, grad_input=d)
        torch.sub(last, d, out=c)
        return result, None


class Network(nn.Module):
    """A classifier on images in [0, 1]: normalise → body → features (N, D) → head → logits (N, K).

    Attributes:
        feature_layers: names that `features` accepts, deepest first; the first is the penultimate layer.
        image_shape: (C, H, W) it was built for.
        num_classes: K.
        card: what is known of a loaded checkpoint (`btlib.checkpoints.Card`); None for a network just built.
    """

    card: Any = None
    any_layout = True  # nothing in it depends on the order of maps in memory

    def __init__(
        self, body: nn.Sequential, head: nn.Linear, normalize: Normalize, image_shape: Shape,
        layers: Mapping[str, str],
    ) -> None:  # fmt: skip
        super().__init__()
        self.normalize, self.body, self.head = normalize, body, head
        self.image_shape, self.num_classes = image_shape, head.out_features
        self._layers = {"penultimate": "", **layers}
        self.feature_layers = tuple(self._layers)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W) in [0, 1] → logits (N, K)."""
        return self.head(self.body(self.normalize(x)))

    def features(self, x: Tensor, layer: str = "penultimate") -> Tensor:
        """Images (N, C, H, W) in [0, 1] → activations of one layer.

        Args:
            x: float images.
            layer: one of `feature_layers`.

        Returns:
            (N, D) for the penultimate layer, (N, channels, h, w) for a convolutional one.

        Raises:
            ValueError: no such layer.
        """
        if layer == "penultimate":
            return self.body(self.normalize(x))
        return self.with_features(x, layer)[1]

    def place_of(self, layer: str) -> str:
        """The submodule that puts out a layer's features, by its dotted name."""
        return ".".join(["body", *filter(None, [self._layers[layer]])])

    def with_features(self, x: Tensor, layer: str = "penultimate") -> tuple[Tensor, Tensor]:
        """Logits and activations of one layer, from a single forward pass.

        Args:
            x: float images (N, C, H, W) in [0, 1].
            layer: one of `feature_layers`.

        Returns:
            logits (N, K), and what `features` returns.

        Raises:
            ValueError: no such layer.
        """
        if layer not in self._layers:
            raise ValueError(f"layer: expected one of {', '.join(self.feature_layers)}, got {layer!r}; "
                             "see net.feature_layers")  # fmt: skip
        if layer == "penultimate":
            features = self.body(self.normalize(x))
            return self.head(features), features
        caught: list[Tensor] = []
        handle = self.get_submodule(self.place_of(layer)).register_forward_hook(
            lambda module, inputs, output: caught.append(output.clone())  # a later in-place layer may write over it
        )
        try:
            logits = self(x)
        finally:
            handle.remove()
        return logits, caught[-1]


def sequential(**modules: nn.Module) -> nn.Sequential:
    """An `nn.Sequential` whose parts have names."""
    return nn.Sequential(OrderedDict(modules))
