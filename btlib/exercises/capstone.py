"""The capstone's exercises (comparing networks, sources, a useful guard), and a whole investigation (lesson 12)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from btlib import checkpoints, datasets, metrics
from btlib.detection import Detection, additive_estimation, red_p
from btlib.exercises.answers import same_tensor, whole_numbers
from btlib.exercises.attempt import tensor
from btlib.exercises.core import WrongAnswer, register
from btlib.exercises.marks import Report
from btlib.inflight import LikelihoodDetector
from btlib.networks import Network
from btlib.triggers import Trigger, box

# ---------------------------------------------------------------------------------------- an investigation

#: Accused above so many robust standard deviations (`against_the_others`).
LIMIT = 3.0


def examine(net: Network, x: Tensor, y: Tensor, *, seed: int = 0) -> Detection:
    """A first look: the smallest perturbation for every pair of classes (RED-P), from four images of each class.

    The same seed draws the same images, so that networks can be compared.

    Args:
        net: the network in question.
        x, y: clean images float (N, C, H, W) in [0, 1], at least four of each class, and their labels (N,).
        seed: of the draw of images.

    Example:
        >>> net = checkpoints.load_or_train(checkpoints.shipped()["one-source"])
        >>> examine(net, *datasets.load("fashion-mnist").clean_images(4)).pair_norms.shape
        (10, 10)
    """
    return red_p(net, x, y, per_class=4, seed=seed)


def compare(found: Mapping[str, Detection]) -> dict[str, Tensor]:
    """`against_the_others` for each network, as a table.

    Args:
        found: name → what `examine` found, with the same seed; at least two networks.

    Returns:
        name → float64 (K, K) by source and target, NaN on the diagonal.

    Example:
        >>> from btlib.detection import red_p
        >>> x, y = datasets.load("fashion-mnist").clean_images(1)
        >>> nets = {name: checkpoints.load_or_train(checkpoints.shipped()[name]) for name in ("clean", "one-source")}
        >>> tables = compare({name: red_p(net, x, y, per_class=1) for name, net in nets.items()})
        >>> bool(tables["one-source"][0, 9] > 0)
        True
    """
    norms = torch.stack([torch.from_numpy(detection.pair_norms) for detection in found.values()])
    pairs = ~norms[0].isnan()
    tables = torch.full_like(norms, torch.nan)
    tables[:, pairs] = against_the_others(norms[:, pairs])
    return dict(zip(found, tables, strict=True))


def accuse(scores: Tensor, limit: float = LIMIT) -> tuple[int, int] | None:
    """The pair of classes that stands out most, as (source, target); None where no score passes the limit.

    Args:
        scores: float (K, K) by source and target, NaN on the diagonal.
        limit: what a score has to pass.

    Example:
        >>> accuse(torch.tensor([[torch.nan, 0.3], [9.0, torch.nan]]))
        (1, 0)
    """
    known = scores.nan_to_num(nan=-torch.inf)
    source, target = divmod(int(known.argmax()), len(scores))
    return (source, target) if scores[source, target] > limit else None


def second_look(net: Network, x: Tensor, y: Tensor, target: int, sources: Sequence[int]) -> Trigger:
    """The perturbation that leads from some classes to one, from more images: some 300 in all.

    Args:
        net, x, y: as in `examine`.
        target: the suspected class.
        sources: classes whose images count.

    Example:
        >>> net = checkpoints.load_or_train(checkpoints.shipped()["one-source"])
        >>> second_look(net, *datasets.load("fashion-mnist").clean_images(20), target=9, sources=[0]).kind
        'additive'
    """
    fewest = int(torch.bincount(y).min())
    chosen = datasets.sample_per_class(y, min(fewest, 300 // len(sources)), range(int(y.max()) + 1))
    return additive_estimation(net, x[chosen], y[chosen], target, sources=list(sources)).trigger


def investigate(
    networks: Mapping[str, Network], x: Tensor, y: Tensor, found: Mapping[str, Detection]
) -> dict[str, Report]:
    """The library's reports: compare the networks, accuse, look again, name sources, deploy a guard.

    Args:
        networks: by name, trained for the same classes.
        x, y: as in `examine`.
        found: name → what `examine` found, with the same seed.

    Returns:
        name → `Report`.
    """
    scores = compare(found)
    return {name: _report(net, x, y, accuse(scores[name])) for name, net in networks.items()}


def _report(net: Network, x: Tensor, y: Tensor, accused: tuple[int, int] | None) -> Report:
    if accused is None:
        return Report(attacked=False)
    source, target = accused
    first = second_look(net, x, y, target, [source])
    sources = obedient_classes(metrics.success_by_class(net, first, x, y, target))
    pattern = second_look(net, x, y, target, sources)
    return Report(True, target, sources, pattern, deploy(net, x, y, target, pattern))


# ---------------------------------------------------------------------------------------- comparison


def against_the_others(norms: Tensor) -> Tensor:
    """How much smaller each pattern is than the same one in all networks, in robust standard deviations.

    The logarithm of (geometric mean over the networks / own norm), over 1.4826 · the median of its absolute values
    in the whole table. What is small in all networks alike belongs to the classes, not to a backdoor. (Leaving the
    network itself out of the mean would stretch all logarithms alike, and the spread takes that back.)
    """
    logs = norms.double().log()
    shorter = logs.mean(0) - logs
    return shorter / (1.4826 * shorter.abs().quantile(0.5))


@register("against_the_others", against_the_others, "Each pair is compared with itself, in networks that others made.",
          convert=tensor)  # fmt: skip
def _check_against_the_others(answer: Callable[[Tensor], Tensor]) -> None:
    for norms in (_norms(), _norms().flip(1)[[1, 0, 2]] * 7, torch.cat([_norms(), _norms().roll(1, 1)[:1] + 1])):
        got = answer(norms)
        expected = against_the_others(norms)
        logs = norms.double().log()
        shorter = logs.mean(0) - logs
        scale = 1.4826 * shorter.abs().quantile(0.5)
        plain = norms.double().mean(0)
        within = logs.mean(1, keepdim=True) - logs
        causes = {
            "the sign: a pattern shorter than the mean is suspicious, so its score is positive": -expected,
            "not yet in units of the spread: divide by 1.4826 times the median of the absolute values": shorter,
            "the factor 1.4826 is missing: it makes the median a standard deviation": shorter / scale * 1.4826,
            "multiplied by 1.4826: divide by it": shorter / scale * 1.4826**2,
            "pairs of one network are compared: compare networks, pair by pair (axis 0)":
                within / (1.4826 * within.abs().quantile(0.5)),
            "these are differences, not ratios: take logarithms first":
                (plain - norms) / (1.4826 * (plain - norms).abs().quantile(0.5)),
            "the arithmetic mean: take the mean of their logarithms":
                (plain.log() - logs) / (1.4826 * (plain.log() - logs).abs().quantile(0.5)),
            "one spread for each network: take the median over the whole table":
                shorter / (1.4826 * shorter.abs().quantile(0.5, 1, keepdim=True)),
            "one spread for each pair: take the median over the whole table":
                shorter / (1.4826 * shorter.abs().quantile(0.5, 0)),
            "torch's median takes the lower of two middle values: quantile(0.5) takes their mean":
                shorter / (1.4826 * shorter.abs().median()),
            "a backdoor would hide itself in a standard deviation: take the median of the absolute values":
                shorter / shorter.std(),
        }  # fmt: skip
        otherwise = "something else than log(geometric mean / own) over its robust spread"
        same_tensor(got, expected, otherwise, causes, tolerance=1e-4)


def _norms() -> Tensor:
    """Three networks, five pairs of classes; the second network's third pair is far too easy."""
    return torch.tensor([[40.0, 55.0, 30.0, 90.0, 20.0], [44.0, 50.0, 3.0, 70.0, 25.0], [35.0, 61.0, 28.0, 99.0, 16.0]])


# ---------------------------------------------------------------------------------------- sources


def obedient_classes(rates: Tensor, share: float = 0.5) -> tuple[int, ...]:
    """Classes whose success rate is at least `share` of the best class's; NaN, the target's own, does not count."""
    known = rates.nan_to_num(nan=-1.0)
    return tuple(int(c) for c in (known >= share * known.max()).nonzero().flatten())


@register("obedient_classes", obedient_classes, "Measured by the most obedient class, and the target is no source.")
def _check_obedient_classes(answer: Callable[..., Sequence[int]]) -> None:
    nan = float("nan")
    cases = [
        (torch.tensor([0.1, 0.9, nan, 0.45, 0.44, 0.8, 0.48]), 0.5),
        (torch.tensor([0.3, 0.02, 0.12, nan, 0.28, 0.16]), 0.5),
        (torch.tensor([nan, 0.95, 0.7, 0.6, 0.1, 0.9]), 0.8), (torch.tensor([0.05, 0.0, 0.25, 0.1, 0.0, nan]), 0.5),
    ]  # fmt: skip
    for rates, share in cases:
        got = answer(rates, share)
        found = tuple(whole_numbers(got, "class numbers", "(1, 5)"))
        expected = obedient_classes(rates, share)
        known, target = rates.nan_to_num(-1.0), int(rates.isnan().nonzero())
        causes = {
            "the target is no source: its rate is NaN, leave it out": tuple(sorted({*expected, target})),
            "a comparison with NaN is never true: take the largest rate of the others (nan_to_num helps)": (),
            "the line is a share of the best class's rate, not a rate itself":
                tuple((known >= share).nonzero().flatten().tolist()),
            "exactly `share` of the best is enough: at least, not more than":
                tuple((known > share * known.max()).nonzero().flatten().tolist()),
            "only the most obedient class: an attack may have more sources": (int(known.argmax()),),
            "these are the classes that do not obey":
                tuple(c for c in range(len(rates)) if c not in expected and c != target),
            "the share is always one half: use the argument": obedient_classes(rates, 0.5),
            "these may be positions after the NaN was left out: numbers of classes, please":
                tuple((rates[~rates.isnan()] >= share * known.max()).nonzero().flatten().tolist()),
        }  # fmt: skip
        if found != expected:
            cause = next((c for c, wrong in causes.items() if found == wrong), "other classes than the obedient ones")
            raise WrongAnswer(f"{expected} for {[round(r, 2) for r in rates.tolist()]}, share {share}", found, cause)


# ---------------------------------------------------------------------------------------- the guard


def deploy(net: Network, x: Tensor, y: Tensor, target: int, pattern: Trigger) -> LikelihoodDetector | None:
    """The likelihood guard fitted with the estimated pattern, or None where the pattern moves no class.

    A pattern that sends less than half of every class's images to the target is hardly the attacker's, and a guard
    fitted with it catches next to nothing (lesson 07).
    """
    guard = LikelihoodDetector().fit(net, x, y, target=target, trigger=pattern)
    return guard if max(guard.trigger_success_.values()) >= 0.5 else None


@register("deploy", deploy, "Fitted with what was found, and not deployed where nothing was.")
def _check_deploy(answer: Callable[..., Any]) -> None:
    spec = checkpoints.shipped()["box"]
    net = checkpoints.load_or_train(spec, progress=False)
    data = datasets.load("fashion-mnist")
    x, y = data.clean_images(20)
    unseen = data.x_test[data.y_test == spec.target][:200]
    trigger = box((1, 28, 28))  # the spec's
    guard = answer(net, x, y, spec.target, trigger)
    if guard is None:
        cause = "a pattern that works is turned down: is there a return, and is the comparison the right way round?"
        raise WrongAnswer("a fitted guard", None, cause)
    if isinstance(guard, type) or not isinstance(guard, LikelihoodDetector):
        cause = "return the detector itself: LikelihoodDetector().fit(…)"
        raise WrongAnswer("a LikelihoodDetector", type(guard).__name__, cause)
    if not hasattr(guard, "threshold_"):
        raise WrongAnswer(
            "a fitted guard", "one before its fit", "call fit(network, images, labels, target=…, trigger=…) first"
        )
    if guard.target_ != spec.target:
        cause = "another class is watched: use the argument target"
        raise WrongAnswer(f"target {spec.target}", f"target {guard.target_}", cause)
    caught = guard.inspect(trigger(x[y != spec.target])).is_trigger.float().mean().item()
    if caught < 0.8:  # measured 0.98
        cause = "a guard fitted with another pattern, or other images: use x, y and pattern as they are"
        raise WrongAnswer("most stamped images flagged", f"{caught:.0%}", cause)
    stopped = guard.inspect(unseen).is_trigger.float().mean().item()
    if stopped > 0.1:  # measured 0.02; 0.15 where the guard was fitted to stamped images
        cause = "x is clean and stays so: the guard stamps a copy itself"
        raise WrongAnswer("few clean images flagged", f"{stopped:.0%}", cause)
    useless = replace(trigger, mask=torch.zeros_like(trigger.mask))
    if answer(net, x, y, spec.target, useless) is not None:
        cause = "a pattern that moves no class makes a useless guard: look at guard.trigger_success_, and return None"
        raise WrongAnswer("None for a pattern that does nothing", "a guard", cause)
    elsewhere = replace(trigger, mask=torch.ones_like(trigger.mask), pattern=torch.zeros_like(trigger.pattern))
    if answer(net, x, y, spec.target, elsewhere) is not None:  # measured: a black page is called class 0
        cause = "count the pictures that arrive at the target: this pattern sends them all to another class"
        raise WrongAnswer("None for a pattern that sends nothing to the target", "a guard", cause)
    single = checkpoints.shipped()["box-one-source"]
    net = checkpoints.load_or_train(single, progress=False)
    faint = replace(trigger, kind="blend", mask=0.6 * trigger.mask)  # measured: the source .85, the mean of all .29
    if any(answer(net, x, y, single.target, pattern) is None for pattern in (trigger, faint)):
        cause = "an attack may have one source class: look at the most obedient class, not at the mean"
        raise WrongAnswer("a guard where one class obeys", None, cause)
