"""Is this a classifier that a detector can work with? Tried on a few made-up images before anything is scanned."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from btlib import metrics
from btlib.cli.adapting import ForeignError, adapted
from btlib.cli.preprocessing import Convention
from btlib.datasets import Shape
from btlib.seeds import generator

LARGEST = 1024  #: side of an input; images of more are photographs that nobody has resized yet


@dataclass(frozen=True)
class Told:
    """What the user says of a network beside its file.

    Attributes:
        network: a name in `networks.NETWORKS` or ``module:function``, for a state dict; None where the file says it.
        size: side of the network's square input, where the file does not say it.
        convention: what is done to images before it sees them.
        output: name or number of the output with the logits, where there are several.
        trust: whether a file that brings code of its own may run it.
        layers: whether its layers must be seen, as a guard's; an exported network is slower then.
    """

    network: str | None = None
    size: int | None = None
    convention: Convention = Convention()
    output: str | None = None
    trust: bool = False
    layers: bool = False


@dataclass(frozen=True, eq=False)
class Foreign:
    """A network ready for the detectors.

    Attributes:
        module: images in [0, 1], (N, C, H, W) → logits (N, K): `bare` with `convention` before it.
        bare: images as it was trained on → logits.
        convention: what is done to images before `bare` sees them; None: the network does it itself.
        what: what kind of network it is, in words.
        image_shape: (C, H, W) of its input.
        num_classes: K.
        notes: what was done to file and network to make them fit, in words.
        ours: its name in `networks.NETWORKS`, where it is one of these.
        classes: names of its outputs, where its file says them.
    """

    module: nn.Module
    bare: nn.Module
    convention: Convention | None
    what: str
    image_shape: Shape
    num_classes: int
    notes: tuple[str, ...] = ()
    ours: str | None = None
    classes: tuple[str, ...] = ()


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


def checked(module: nn.Module, what: str, shape: Shape, known: bool, told: Told, again: str) -> Foreign:
    """Find the number of channels where it is not known, take the logits, put the convention before, and try it all.

    Args:
        module: the network.
        what: what kind of network it is, in words.
        shape: (C, H, W) of its input.
        known: whether C is its own, or only that of the images.
        told: what the user said of it.
        again: what to do when it is not as expected.

    Raises:
        ForeignError: one line that says what is wrong and how to mend it.
    """
    check_shape(shape)
    module.eval()
    if not known:
        shape = _try_channels(module, shape, again)
    try:
        told.convention.check(shape[0])
    except ValueError as error:
        raise ForeignError(str(error)) from None
    try:
        bare, notes = adapted(module, told.convention.of(_noise(shape)), told.output)
    except ForeignError:
        raise
    except Exception as error:
        raise _wrong("a network that takes batches of any size", _failed(shape, error), again) from None
    network = told.convention.before(bare)
    return Foreign(network, bare, told.convention, what, shape, _try_logits(network, shape, again), tuple(notes))


def check_shape(shape: Sequence[Any]) -> None:
    """Whether images can have this shape, before memory for them is taken.

    Raises:
        ForeignError: they can't.
    """
    whole = [type(n) is int for n in shape] == [True] * 3
    if not (whole and shape[0] in (1, 3) and all(1 <= n <= LARGEST for n in shape[1:])):
        raise ForeignError(
            f"--size: expected an input of 1 or 3 channels and of 1 to {LARGEST} pixels a side, got {by(shape)}; pass "
            "the --size of the network's input, or mend its image_shape"
        )


def _noise(shape: Shape) -> Tensor:
    noise = torch.rand(3, *shape, generator=generator(0))
    return torch.cat([noise, torch.zeros(1, *shape), torch.ones(1, *shape)])


def _wrong(expected: str, got: str, again: str) -> ForeignError:
    return ForeignError(f"WEIGHTS: expected {expected}, got {got}; {again}")


def _failed(shape: Shape, error: Exception) -> str:
    return f"a failure on {by((5, *shape))} ({said_by(error)})"


def _try_channels(module: nn.Module, shape: Shape, again: str) -> Shape:
    """The channels of the first convolution, else those of the images, else the other of grey and RGB."""
    inner = module._inner[0] if isinstance(module, Sealed) else module
    first = next((p.shape[1] for p in inner.parameters() if p.ndim == 4), None)
    likely = first if first in (1, 3) else shape[0]  # 1 also where each channel is convolved for itself
    said = ""
    for channels in (likely, 4 - likely):
        candidate = (int(channels), *shape[1:])
        try:
            with metrics.evaluating(module):
                module(torch.zeros(2, *candidate))
        except Exception as error:
            said = said or said_by(error)
        else:
            return candidate
    raise ForeignError(
        f"--size: expected a network for batches of images {by(shape)}, but it failed on them ({said}); "
        f"pass the --size of its input, or {again}"
    )


def _try_logits(module: nn.Module, shape: Shape, again: str) -> int:
    """The number of classes, after the network was seen to do what detectors need."""
    images = _noise(shape).requires_grad_()
    try:
        with metrics.frozen(module):
            out, fewer, single = module(images), module(images[:3]), module(images[:1])
    except Exception as error:
        raise _wrong("a network that takes batches of any size", _failed(shape, error), again) from None
    for part, count in ((out, 5), (fewer, 3), (single, 1)):
        got = f"shape {tuple(part.shape)} for {count} images"
        if (part.ndim and len(part) != count) or part.ndim != out.ndim:
            raise _wrong("a network that takes batches of any size", got, again)
        if part.ndim != 2 or part.shape[1] < 3:
            raise _wrong("logits (N, K) of at least 3 classes", got, again)
    if not out.is_floating_point():
        raise _wrong("logits in floating point", str(out.dtype).removeprefix("torch."), again)
    if not bool(out.isfinite().all()):
        raise _wrong("finite logits", "NaN or infinity", again)
    scale = 1e-3 * float(out.detach().abs().max()) + 1e-6
    if not all(torch.allclose(part, out[: len(part)], rtol=0, atol=scale) for part in (fewer, single)):
        raise _wrong(
            "the same logits for an image whatever is beside it", "others (dropout or batch statistics)", again
        )
    ones = torch.ones_like(out)
    slope = torch.autograd.grad(out, images, ones, allow_unused=True)[0] if out.requires_grad else None
    if slope is None or not bool(slope.any()):
        got = "no gradient, so that it could not be judged (does it round, or stop gradients?)"
        raise _wrong("logits that can be differentiated with respect to the image", got, again)
    if not bool(slope.isfinite().all()):
        raise _wrong("finite gradients", "NaN or infinity on black, white or random images", again)
    return int(out.shape[1])


def by(shape: Sequence[Any]) -> str:
    """A shape as in 1×28×28."""
    return "×".join(map(str, shape))


def said_by(error: BaseException) -> str:
    """What an error says, in one line; its class where it says nothing."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return lines[-1 if "TorchScript interpreter" in lines[0] else 0][:200]  # it names the fault after its traceback
