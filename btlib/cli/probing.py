"""Is this a classifier that a detector can work with? Tried on a few made-up images before anything is scanned."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from btlib import metrics
from btlib.datasets import Shape
from btlib.networks.layers import Normalize


class ForeignError(ValueError):
    """A network that can't be loaded or scanned; the message says what was expected and what to do."""


@dataclass(frozen=True, eq=False)
class Foreign:
    """A network ready for the detectors.

    Attributes:
        module: images in [0, 1], (N, C, H, W) → logits (N, K).
        what: what kind of network it is, in words.
        image_shape: (C, H, W) of its input.
        classes: K.
    """

    module: nn.Module
    what: str
    image_shape: Shape
    classes: int


class Sealed(nn.Module):
    """A network whose mode can't be set: kept out of `modules()`, without gradients for its weights.

    An exported module refuses train() and eval(). One that was exported from a batch of two may refuse a single image,
    so that one goes in twice.
    """

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        for parameter in inner.parameters():
            parameter.requires_grad_(False)
        self._inner = (inner,)  # a tuple hides it from nn.Module

    def forward(self, x: Tensor) -> Tensor:
        """Images → logits."""
        inner = self._inner[0]
        return inner(torch.cat([x, x]))[:1] if len(x) == 1 else inner(x)


def checked(
    module: nn.Module, what: str, shape: Shape, known: bool, normalize: tuple[Sequence[float], Sequence[float]] | None,
    again: str,
) -> Foreign:  # fmt: skip
    """Find the number of channels where it is not known, add the normalisation, and try the network.

    Args:
        module: the network.
        what: what kind of network it is, in words.
        shape: (C, H, W) of its input.
        known: whether C is its own, or only that of the images.
        normalize: mean and standard deviation that it wants to be applied outside.
        again: what to do when it is not as expected.

    Raises:
        ForeignError: one line that says what is wrong and how to mend it.
    """
    module.eval()
    if not known:
        shape = _try_channels(module, shape, again)
    if normalize is not None:
        if {len(part) for part in normalize} - {1, shape[0]}:
            raise ForeignError(f"--mean, --std: expected one number or {shape[0]}, one per channel, got "
                               f"{len(normalize[0])} and {len(normalize[1])}; separate them by commas")  # fmt: skip
        mean, std = (torch.tensor(part).expand(shape[0]) for part in normalize)
        module = nn.Sequential(Normalize(mean, std), module).eval()
    return Foreign(module, what, shape, _try_logits(module, shape, again))


def _try_channels(module: nn.Module, shape: Shape, again: str) -> Shape:
    """The channels of the first convolution, else those of the images, else the other of grey and RGB."""
    inner = module._inner[0] if isinstance(module, Sealed) else module
    first = next((p.shape[1] for p in inner.parameters() if p.ndim == 4), None)
    said = ""
    for channels in [first] if first in (1, 3) else [shape[0], 4 - shape[0]]:
        candidate = (int(channels), *shape[1:])
        try:
            with metrics.evaluating(module):
                module(torch.zeros(2, *candidate))
        except Exception as error:
            said = said or first_line(error)
        else:
            return candidate
    raise ForeignError(
        f"--size: expected a network for batches of images {by(shape)}, but it failed on them ({said}); "
        f"pass the --size of its input, or {again}"
    )


def _try_logits(module: nn.Module, shape: Shape, again: str) -> int:
    """The number of classes, after the network was seen to do what detectors need."""
    noise = torch.rand(3, *shape, generator=torch.Generator().manual_seed(0))
    images = torch.cat([noise, torch.zeros(1, *shape), torch.ones(1, *shape)]).requires_grad_()

    def wrong(expected: str, got: str) -> ForeignError:
        return ForeignError(f"WEIGHTS: expected {expected}, got {got}; {again}")

    try:
        with metrics.frozen(module):
            out, fewer, single = module(images), module(images[:3]), module(images[:1])
    except Exception as error:
        got = f"a failure on {by((5, *shape))} ({first_line(error)})"
        raise wrong("a network that takes batches of any size", got) from None
    if not isinstance(out, Tensor) or out.ndim != 2 or len(out) != 5 or out.shape[1] < 3:
        got = f"shape {tuple(out.shape)}" if isinstance(out, Tensor) else type(out).__name__
        if isinstance(out, Tensor) and len(out) != 5:
            raise wrong("a network that takes batches of any size", f"{got} for 5 images")
        raise wrong("logits (N, K) of at least 3 classes", f"{got} for 5 images")
    if not bool(out.isfinite().all()):
        raise wrong("finite logits", "NaN or infinity")
    if bool((out >= 0).all()) and bool(((out.sum(1) - 1).abs() < 1e-3).all()):
        raise wrong("logits", "probabilities (each row sums to 1), whose gradients vanish")
    scale = 1e-3 * float(out.detach().abs().max()) + 1e-6
    if not all(torch.allclose(part, out[: len(part)], rtol=0, atol=scale) for part in (fewer, single)):
        raise wrong("the same logits for an image whatever is beside it", "others (dropout or batch statistics)")
    if not out.requires_grad or torch.autograd.grad(out.sum(), images, allow_unused=True)[0] is None:
        raise wrong("logits that can be differentiated with respect to the image", "no gradient")
    return int(out.shape[1])


def by(shape: Sequence[int]) -> str:
    """A shape as in 1×28×28."""
    return "×".join(map(str, shape))


def first_line(error: BaseException) -> str:
    """What an error says, in one line; its class where it says nothing."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:200]
