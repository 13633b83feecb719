"""MM-BD: how far can any image be pushed into each class? Needs no clean images (floor 2)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from btlib.detection.detector import Detector
from btlib.detection.images import IMAGES_AT_ONCE, DefenseSet, defense_set
from btlib.detection.outcome import Detection, Estimate
from btlib.detection.verdict import Rule
from btlib.metrics.prediction import logits_of
from btlib.metrics.success import margin
from btlib.seeds import generator
from btlib.triggers import Trigger


@dataclass(frozen=True, kw_only=True)
class MMBD(Detector):
    """MM-BD: the largest margin that any image in [0, 1] reaches for each class (Wang et al., IEEE S&P 2024).

    A backdoor, whatever its pattern, makes the network too sure of its target. The statistic of a class is
    r_c = max_x [g_c(x) - max_{k≠c} g_k(x)], found by gradient ascent from random images; its null is a Gamma fitted to
    all but the largest. Here a size is 1 / r_c, so that the verdict's statistics 1 / size are the margins themselves,
    and the pattern is the whole image that reaches it. Clean images are not needed: `network(…)` alone will do.

    As published (its public code): ``MMBD(starts=30, steps=300, lr=0.01, sign=False)``. The default takes steps of
    the gradient's sign that shrink in the second half: larger margins in a tenth of the time (docs/choices.md).
    By default judged by the published p-value at θ = 0.05.

    Attributes:
        per_class, seed, progress: as in `Detector`; the seed is that of the first images.
        starts: random first images for each class.
        steps: of ascent.
        lr: length of a step: of every pixel with `sign`, else a factor on the gradient.
        sign: see above.
        image_shape: (C, H, W), where neither images nor the network's own `image_shape` say it.

    Example:
        >>> from btlib import checkpoints
        >>> net = checkpoints.load_or_train(checkpoints.shipped()["chessboard"])
        >>> MMBD(starts=3, steps=30)(net).verdict().target
        9
    """

    per_class: int | None = 1  # whose shape counts, nothing else
    starts: int = 10
    steps: int = 100
    lr: float = 0.1
    sign: bool = True
    image_shape: tuple[int, ...] | None = None
    title = "MM-BD"
    size_name = "1 / largest margin"
    needs_images = False
    rule: ClassVar[Rule] = "published"

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        for name in ("starts", "steps", "lr"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: expected a positive number, got {getattr(self, name)}; see MMBD")

    def __call__(
        self, network: nn.Module, images: Tensor | None = None, labels: Tensor | None = None, *,
        targets: Sequence[int] | None = None, sources: Sequence[int] | None = None,
    ) -> Detection:  # fmt: skip
        """Look for a backdoor: as `Detector`, with images or without; sources mean nothing to it.

        Raises:
            ValueError: also no shape to be had, or a class that no image was found for.
        """
        return super().__call__(network, images, labels, targets=targets, sources=sources)

    def _data(self, network: nn.Module, images: Tensor | None, labels: Tensor | None) -> DefenseSet:
        if images is not None and labels is not None:
            return super()._data(network, images, labels)
        shape = self.image_shape or getattr(network, "image_shape", None)
        if shape is None:
            raise ValueError("image_shape: expected (C, H, W), since this network does not say it, got None; pass it, "
                             "or images")  # fmt: skip
        noise = torch.rand(1, *shape, generator=generator(self.seed))
        classes = logits_of(network, noise, least=3)[0].shape[1]
        return defense_set(network, noise.expand(classes, *shape), torch.arange(classes))

    def _estimate(self, network: nn.Module, data: DefenseSet, targets: Sequence[int]) -> list[Estimate]:
        shape, device = data.images.shape[1:], data.images.device
        first = torch.rand(self.starts, *shape, generator=generator(self.seed)).to(device)
        wanted, found = torch.tensor(targets, device=device), []
        together = max(1, IMAGES_AT_ONCE // self.starts)  # so that memory is bounded, whatever K is
        with tqdm(total=len(targets) * self.steps, desc="margins", disable=not self.progress) as bar:
            for part in wanted.split(together):
                best, margins = self._ascend(network, first, part, bar)
                found += [self._made(*one, data.num_classes) for one in zip(part.tolist(), best, margins, strict=True)]
        return found

    def _ascend(self, network: nn.Module, first: Tensor, targets: Tensor, bar: tqdm) -> tuple[Tensor, list[float]]:
        """For each target the best image (T, C, H, W) and its margin: all targets and starts in one batch."""
        x, wanted = first.repeat(len(targets), 1, 1, 1), targets.repeat_interleave(len(first))
        for step in range(self.steps):
            x.requires_grad_()
            (slope,) = torch.autograd.grad(margin(network(x).float(), wanted).sum(), x)
            lr = self.lr * min(1.0, 2 - 2 * step / self.steps) if self.sign else self.lr
            x = (x.detach() + lr * (slope.sign() if self.sign else slope)).clamp(0, 1)
            bar.update(len(targets))
        with torch.no_grad():
            reached = margin(network(x).float(), wanted).reshape(len(targets), -1)
        best = reached.argmax(1)
        rows = torch.arange(len(targets), device=x.device)
        return x.reshape(*reached.shape, *x.shape[1:])[rows, best].cpu(), reached[rows, best].tolist()

    def _made(self, target: int, image: Tensor, reached: float, classes: int) -> Estimate:
        if not reached > 0:
            raise ValueError(f"network: expected a class that some image belongs to, got none for class {target} "
                             f"(largest margin {reached:.3g}); name the other classes in targets")  # fmt: skip
        whole = Trigger("blend", image, torch.ones_like(image[:1]), bits=None, name=f"estimate {target}")
        by_class = torch.ones(classes)
        by_class[target] = torch.nan
        count = self.starts * self.steps
        nothing_known = torch.full((classes,), torch.nan)
        return Estimate(target, whole, 1 / reached, 1.0, by_class, nothing_known, self.steps, count, converged=True)
