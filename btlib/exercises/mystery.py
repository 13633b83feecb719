"""The capstone's case: three networks of unknown state, made from a seed, and the marks for what is said of them.

A `Mystery` holds the networks and what a defender has; the answers lie in a sealed envelope beside it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from tqdm.auto import tqdm

from btlib import checkpoints, datasets, metrics, networks, poisoning, training
from btlib.datasets import ImageDataset, Shape
from btlib.exercises.marks import Mark, Report, Truth, mark
from btlib.exercises.mystery_attacks import ATTACKS, LOCAL, PATTERNS, box, check_attacks, roll, teaching
from btlib.networks import Network
from btlib.profiles import Profile
from btlib.seeds import generator
from btlib.triggers import AnyTrigger

NAMES = ("A", "B", "C")
_TOOK = 0.8  # an attack below this success rate is drawn again
_TRIES = 10  # but not for ever
_KNOWN = 100  # clean images of each class that the defender has (in-flight 5.1)
_UNSEEN = 200  # others of each class, to mark the reports by
_QUICK = training.Recipe(epochs=4, batch_size=128, lr=3e-3, schedule="one_cycle")
_SMALL = 6_000  # training images of the fast profile


@dataclass(frozen=True, eq=False)
class Mystery:
    """Three networks from three vendors, and what the defender has. What they hide is not among its attributes.

    Attributes:
        networks: name → network, in evaluation mode on the CPU.
        x, y: the defender's clean images, float (1000, C, H, W) in [0, 1], a hundred of each class, and labels.
        classes: class names.
        number: of an examination's case; None for one's own.
    """

    networks: Mapping[str, Network]
    x: Tensor = field(repr=False)
    y: Tensor = field(repr=False)
    classes: tuple[str, ...]
    number: str | None = None

    def grade(self, reports: Mapping[str, Report]) -> list[Mark]:
        """Mark the reports by images that the defender has not seen; says what was lost, not what was expected.

        Args:
            reports: name → `Report`, one for each of `networks`.

        Raises:
            ValueError: a network without a report, or a report that can't be read.
        """
        self.check_reports(reports)
        sealed = self._envelope()
        return [m for name, net in self.networks.items()
                for m in mark(name, net, reports[name], sealed.truths[name], *sealed.unseen)]  # fmt: skip

    def open_the_envelope(self) -> Mapping[str, Truth]:
        """The truth about each network, by name. Hand in your reports first."""
        return dict(self._envelope().truths)

    def unseen(self) -> tuple[Tensor, Tensor]:
        """Images and labels that reports are marked by, which the investigator has not seen."""
        return self._envelope().unseen

    def check_reports(self, reports: Mapping[str, Report]) -> None:
        """Raise ValueError unless there is a report for each network."""
        if set(reports) != set(self.networks):
            raise ValueError(f"reports: expected one for each of {', '.join(self.networks)}, got "
                             f"{', '.join(map(str, reports)) or 'none'}; write a Report for each")  # fmt: skip

    def _envelope(self) -> "_Envelope":
        if self not in _ENVELOPES:
            raise ValueError("case: expected one of your own making, got an examination's, whose answers are with the "
                             "instructor; hand in your reports with examination.hand_in")  # fmt: skip
        return _ENVELOPES[self]


@dataclass(frozen=True, eq=False)
class _Envelope:
    truths: Mapping[str, Truth]
    unseen: tuple[Tensor, Tensor] = field(repr=False)


# Beside the mysteries and not in them: printing a mystery or looking at its attributes gives nothing away.
_ENVELOPES: WeakKeyDictionary[Mystery, _Envelope] = WeakKeyDictionary()


def trained(
    profile: Profile, data: ImageDataset, truth: Truth, seed: int, *, quick: training.Recipe = _QUICK, covers: int = 0
) -> Network:
    """A vendor's network, with nothing attached that tells its past.

    `quick` is the fast profile's recipe; the adaptive attacks and WaNet need three times its epochs. With `covers`
    (`poisoning.poison`) few-source attacks do not spread, and are harder to find.
    """
    small = profile.train_images is not None
    part = data.subset(train=_SMALL, seed=seed) if small else data
    recipe = quick if small else training.RECIPES[profile.recipe]
    if truth.trigger is not None and truth.target is not None:
        taught = teaching(truth, small=small, covers=covers)
        recipe = replace(recipe, epochs=taught.longer * recipe.epochs)
        # With few images a lone source would have hardly a clean one left.
        originals: poisoning.Originals = "add" if small else "replace"
        part = poisoning.poison(
            part, truth.trigger, truth.target, truth.sources, per_class=taught.per_class, originals=originals,
            covers=taught.covers, clean_label=taught.clean_label, seed=seed,
        )  # fmt: skip
    net = networks.build(profile.network, data, seed=seed)
    if small:
        start = checkpoints.shipped()[("clean", "clean-1", "clean-2")[seed % 10]]
        net.load_state_dict(checkpoints.load_or_train(start, progress=False).state_dict())
    training.fit(net, part, recipe, seed=seed, progress=not small)
    return net.cpu()


#: What makes a network: profile, data, truth and seed → it.
Vendor = Callable[[Profile, ImageDataset, Truth, int], Network]


def make(
    profile: Profile, seed: int, *, vendor: Vendor = trained, attacks: Sequence[str] = ATTACKS, covers: int = 0,
    progress: bool = False,
) -> Mystery:  # fmt: skip
    """Draw and train three networks: at least one is clean, at least one obeys from one to three classes only.

    In the fast profile the vendors go on training the course's three clean networks with 6,000 images (the clean
    ones with clean images, so that nothing but the backdoor differs); else they train their own from the beginning.
    An attack that did not take is drawn again, unseen, and a box from the third time on; but never a box from all
    classes where `attacks` does not name it.

    Args:
        profile: data, network and recipe.
        seed: any whole number; the same one gives the same mystery.
        vendor: what makes each network; where there are covers, it is told ``covers=``, too.
        attacks: what may be drawn where all classes are sources, names in `mystery_attacks.PATTERNS`. One mystery in
            three has such a network. The course's detectors may miss WaNet and SIG (docs/choices.md).
        covers: images of each other class that an attack from few classes stamps and leaves their label, so that it
            does not spread (`poisoning.poison`).
        progress: show a bar.

    Returns:
        A `Mystery`.

    Raises:
        TypeError: a seed that is no whole number.
        ValueError: an unknown attack; no attack takes, though it is drawn ten times; more covers than there are images.

    Example:
        >>> from btlib.profiles import profile
        >>> make(profile("fast"), seed=0.5)
        Traceback (most recent call last):
        ...
        TypeError: seed: expected a whole number, got 0.5; any will do, each is another mystery
    """
    if not isinstance(seed, int):
        raise TypeError(f"seed: expected a whole number, got {seed!r}; any will do, each is another mystery")
    if covers < 0:
        raise ValueError(f"covers: expected 0 or more images of each class, got {covers}; 0 is none")
    every = partial(_all_sources, attacks=check_attacks(attacks))
    told = {"covers": covers} if covers else {}
    data = datasets.load(profile.data)
    split = data.defender_split(_KNOWN, others=_UNSEEN, seed=seed)
    unseen = split.other_images, split.other_labels
    sold = partial(vendor, profile, data, **told)
    dice = generator(seed)
    plans = [_clean, _few_sources, (_clean, every, _few_sources)[roll(dice, 3)]]
    order = torch.randperm(3, generator=dice).tolist()
    nets: dict[str, Network] = {}
    truths: dict[str, Truth] = {}
    for place in tqdm(range(3), "the vendors train", disable=not progress, unit="network"):
        name, own, plan = NAMES[place], generator(10 * seed + place), plans[order[place]]
        draw = partial(plan, data.image_shape, data.num_classes, own)
        instead = partial(box, dice=own) if plan is not every or "box" in attacks else None
        nets[name], truths[name] = _one_that_took(draw, instead, sold, 10 * seed + place, unseen)
    case = Mystery(nets, split.images, split.labels, data.classes)
    _ENVELOPES[case] = _Envelope(truths, unseen)
    return case


def _one_that_took(
    draw: Callable[[], Truth], instead: Callable[[Shape], AnyTrigger] | None, vendor: Callable[[Truth, int], Network],
    seed: int, unseen: tuple[Tensor, Tensor],
) -> tuple[Network, Truth]:  # fmt: skip
    """A network and its truth, drawn until the attack obeys."""
    for attempt in range(_TRIES):
        truth = draw()
        if truth.trigger is not None and attempt >= 2 and instead:  # some patterns don't take in some networks
            truth = replace(truth, trigger=instead(truth.trigger.image_shape))
        net = vendor(truth, seed)
        if _took(net, truth, *unseen):
            return net, truth
    raise ValueError(f"seed: expected an attack that takes within {_TRIES} draws, got none with a success rate of "
                     f"{_TOOK:.0%}; choose another seed, attack, or a profile that trains for longer")  # fmt: skip


# ---------------------------------------------------------------------------------------- what is drawn


def _clean(shape: Shape, classes: int, dice: torch.Generator) -> Truth:
    return Truth(False)


def _few_sources(shape: Shape, classes: int, dice: torch.Generator) -> Truth:
    """One to three source classes and a pattern of one place."""
    target, *others = torch.randperm(classes, generator=dice).tolist()
    trigger = LOCAL[roll(dice, len(LOCAL))](shape, dice)
    return Truth(True, target, tuple(sorted(others[: 1 + roll(dice, 3)])), trigger)


def _all_sources(shape: Shape, classes: int, dice: torch.Generator, *, attacks: Sequence[str]) -> Truth:
    """Every class but the target."""
    target = roll(dice, classes)
    trigger = PATTERNS[attacks[roll(dice, len(attacks))]](shape, dice)
    return Truth(True, target, poisoning.source_classes("all", target, classes), trigger)


def _took(net: Network, truth: Truth, x: Tensor, y: Tensor) -> bool:
    """Whether the network obeys; a clean one has nobody to obey."""
    if truth.trigger is None or truth.target is None:
        return True
    return metrics.attack_success_rate(net, truth.trigger, x, y, truth.target, truth.sources) >= _TOOK
