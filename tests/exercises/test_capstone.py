"""Lesson 12: the mysteries keep their secret, the marks are fair, the exercises' wrong answers get their own cause."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest
import torch
from exercise_contract import ExerciseContract
from torch import Tensor, nn
from toys import TARGET, hand_set

from btlib import checkpoints, metrics, triggers
from btlib.datasets import ImageDataset, to_uint8
from btlib.exercises import capstone, mystery
from btlib.exercises.capstone import against_the_others, obedient_classes
from btlib.exercises.marks import RUBRIC, Mark, Report, Truth, mark
from btlib.exercises.mystery import Mystery, Vendor
from btlib.exercises.mystery_attacks import ATTACKS, PATTERNS, Teaching, check_attacks, teaching
from btlib.inflight import B3DDetector, LikelihoodDetector
from btlib.networks import Network
from btlib.networks.layers import Normalize, sequential
from btlib.profiles import Profile, profile
from btlib.training import Recipe
from btlib.triggers import Trigger

# ---------------------------------------------------------------------------------------- marks

SHAPE, SHAPE_OF_FASHION = (1, 8, 8), (1, 28, 28)
PIXEL = triggers.single_pixel(SHAPE)  # lights the last pixel, which hand_set's backdoor listens to
TRUE = Truth(True, TARGET, (0, 1), PIXEL)


def pictures(count: int = 30) -> tuple[Tensor, Tensor]:
    """Class k has pixel (0, k) lit, the other pixels are noise below that."""
    y = torch.arange(count) % 3
    x = torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(0)) * 0.02
    x[range(count), 0, 0, y] = 1.0
    x[:, 0, -1, -1] = 0
    return x, y


def marks(report: Report, truth: Truth = TRUE, net: Network | None = None) -> dict[str, Mark]:
    found = mark("A", net or hand_set(10), report, truth, *pictures())
    assert all(0 <= m.points <= m.out_of == RUBRIC[m.item] for m in found)
    return {m.item: m for m in found}


def points(report: Report, truth: Truth = TRUE) -> dict[str, float]:
    return {item: m.points for item, m in marks(report, truth).items()}


def right() -> Report:
    net, (x, y) = hand_set(10), pictures()
    guard = B3DDetector(fpr=0.2).fit(net, x, y, target=TARGET, trigger=PIXEL)
    return Report(True, TARGET, (0, 1), PIXEL, guard)


def test_a_clean_network_is_marked_by_its_state_only() -> None:
    assert points(Report(False), Truth(False)) == {"state": 20}
    assert points(right(), Truth(False)) == {"state": 0}


def test_an_overlooked_backdoor_costs_everything() -> None:
    assert points(Report(False)) == dict.fromkeys(RUBRIC, 0)


def test_a_right_report_has_all_points_but_those_of_a_poor_guard() -> None:
    found = points(right())
    assert [found[item] for item in ("state", "target", "sources", "pattern")] == [20] * 4
    assert "TPR" in marks(right())["guard"].why


@pytest.mark.parametrize(
    ("sources", "expected"), [((0, 1), 20), ((1, 0), 20), ((0,), 10), ((0, 1, 3, 4), 10), ((3,), 0), ((), 0)]
)
def test_sources_are_marked_by_overlap(sources: tuple[int, ...], expected: float) -> None:
    assert points(replace(right(), sources=sources))["sources"] == expected


def test_a_warp_is_marked_as_other_triggers_are() -> None:
    x, y = pictures()
    field = torch.zeros(*SHAPE[1:], 2)
    field[-1, -1] = -2  # the last pixel, which hand_set's backdoor listens to, is taken from one up and left
    warp = replace(triggers.wanet(SHAPE), field=field)
    lit = x.clone()
    lit[:, 0, -2, -2] = 1.0
    net, truth = hand_set(10), Truth(True, TARGET, (0, 1), warp)
    assert metrics.attack_success_rate(net, warp, lit, y, TARGET) == 1.0
    assert metrics.attack_success_rate(net, lambda images: images, lit, y, TARGET) < 1
    guard = B3DDetector(fpr=0.2).fit(net, x, y, target=TARGET, trigger=PIXEL)
    found = {m.item: m.points for m in mark("A", net, Report(True, TARGET, (0, 1), warp, guard), truth, lit, y)}
    assert [found[item] for item in ("state", "target", "sources", "pattern")] == [20] * 4
    assert found["guard"] > 0
    assert points(Report(False), truth) == dict.fromkeys(RUBRIC, 0)


def test_a_wrong_target_is_not_told_what_was_right() -> None:
    found = marks(replace(right(), target=1, guard=None))
    assert found["target"].points == 0
    assert not any(str(TARGET) in m.why for m in (found["state"], found["target"], found["sources"]))


def test_the_pattern_is_marked_by_what_it_does() -> None:
    half = replace(right(), pattern=PIXEL.faded(0.0))
    assert points(half)["pattern"] == 0
    assert points(replace(right(), pattern=None))["pattern"] == 0
    # Pixel (0, 2) makes the honest network say class 2 too, but only as loudly as the image's own class: a tie that
    # class 0 or 1 wins, so this is no trigger.
    other = triggers.single_pixel(SHAPE, position=(0, 2))
    assert points(replace(right(), pattern=other))["pattern"] == 0


@pytest.mark.parametrize(
    "pattern",
    [
        Trigger("patch", pictures()[0][TARGET], torch.ones(1, 8, 8)),
        Trigger("blend", pictures()[0][TARGET], torch.full((1, 8, 8), 0.7)),
        Trigger("additive", 2 * pictures()[0][TARGET] - 1, torch.ones(1, 8, 8)),
    ],
    ids=lambda pattern: pattern.kind,
)
def test_a_picture_of_the_target_is_no_pattern(pattern: Trigger) -> None:
    x, y = pictures()
    assert metrics.attack_success_rate(hand_set(0), pattern, x, y, TARGET) == 1.0  # also without any backdoor
    found = marks(replace(right(), pattern=pattern))["pattern"]
    assert found.points == 0
    assert "not another picture" in found.why


class _Fixed(B3DDetector):
    """Flags triggers and clean images as it is told."""

    def __init__(self, *, on_triggers: bool, on_clean: bool) -> None:
        super().__init__(fpr=0.2)
        self.on_triggers, self.on_clean = on_triggers, on_clean

    def _measure(self, images: Tensor) -> Any:
        measured = super()._measure(images)
        lit = images[:, 0, -1, -1] > 0.5
        flags = torch.where(lit, float(self.on_triggers), float(self.on_clean)) * 9 - 4
        return measured._replace(scores=flags)

    def _fit(self, images: Tensor, labels: Tensor, trigger: Any) -> float:
        self.trigger_ = trigger
        return 0.0


@pytest.mark.parametrize(
    ("on_triggers", "on_clean", "expected"),
    [(True, False, 16), (False, False, 8), (True, True, 8), (False, True, 0)],  # it infers no source: at most 16
)
def test_the_guard_is_marked_by_its_rates(on_triggers: bool, on_clean: bool, expected: float) -> None:
    x, y = pictures()
    guard = _Fixed(on_triggers=on_triggers, on_clean=on_clean).fit(hand_set(10), x, y, target=TARGET, trigger=PIXEL)
    assert points(replace(right(), guard=guard))["guard"] == expected


def test_a_guard_of_another_class_or_none_has_no_points() -> None:
    x, y = pictures()
    elsewhere = _Fixed(on_triggers=True, on_clean=False).fit(hand_set(10), x, y, target=0, trigger=PIXEL)
    assert points(replace(right(), guard=elsewhere))["guard"] == 0
    assert points(replace(right(), guard=None))["guard"] == 0


def test_something_else_than_a_report_is_refused() -> None:
    with pytest.raises(TypeError, match=r"reports\['A'\].*Report"):
        marks(...)  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------- mysteries


def single_minded(profile: Profile, data: ImageDataset, truth: Truth, seed: int) -> Network:
    """A network, never trained, that calls everything the target; a clean one's favourite is class 0."""
    body, pixels = sequential(flatten=nn.Flatten()), data.x_train[0].numel()
    as_it_is = Normalize(torch.zeros(1), torch.ones(1))  # statistics of 60,000 images would be for nothing
    net = Network(body, nn.Linear(pixels, data.num_classes), as_it_is, data.image_shape, {})
    nn.init.zeros_(net.head.weight)
    net.head.bias.data = nn.functional.one_hot(torch.tensor(truth.target or 0), data.num_classes).float()
    return net


def stubborn(profile: Profile, data: ImageDataset, truth: Truth, seed: int) -> Network:
    """A network that never says the target."""
    net = single_minded(profile, data, truth, seed)
    net.head.bias.data.neg_()
    return net


def untrained(seed: int) -> Mystery:
    """A mystery that is drawn in earnest and not trained."""
    return mystery.make(profile("fast"), seed, vendor=single_minded, progress=False)


def told(case: Mystery) -> list[tuple[Any, ...]]:
    return [(t.attacked, t.target, t.sources, t.trigger and t.trigger.pattern.tolist())
            for t in case.open_the_envelope().values()]  # fmt: skip


def test_the_same_seed_gives_the_same_mystery_and_another_one_another() -> None:
    one, again, other = untrained(5), untrained(5), untrained(6)
    assert told(one) == told(again) != told(other)
    assert torch.equal(one.x, again.x)
    assert not torch.equal(one.x, other.x)


def test_the_same_attack_trains_to_the_same_weights(fashion: ImageDataset) -> None:
    quick = Recipe(epochs=1, batch_size=512, lr=1e-4)
    truth = Truth(True, 3, (1, 2), triggers.box(fashion.image_shape))
    one, again, clean = (
        mystery.trained(profile("fast"), fashion, t, 11, quick=quick).state_dict() for t in (truth, truth, Truth(False))
    )
    assert all(torch.equal(one[key], again[key]) for key in one)
    assert not all(torch.equal(one[key], clean[key]) for key in one)
    covered = mystery.trained(profile("fast"), fashion, truth, 11, quick=quick, covers=5).state_dict()
    assert not all(torch.equal(one[key], covered[key]) for key in one)


def test_draws_keep_their_promises() -> None:
    clean, counts, orders, kinds = 0, set(), set(), set()
    for seed in range(60):
        truths = untrained(seed).open_the_envelope()
        states = [truth.attacked for truth in truths.values()]
        assert not all(states)
        assert any(1 <= len(truth.sources) <= 3 for truth in truths.values())
        clean += states.count(False)
        orders.add(tuple(states))
        for truth in truths.values():
            if truth.trigger is None:
                assert (truth.target, truth.sources) == (None, ())
                continue
            counts.add(len(truth.sources))
            kinds.add((truth.trigger.kind, int(truth.trigger.mask.sum())))
            assert truth.target not in truth.sources
            assert truth.trigger.mask.sum() > 0
    assert counts == {1, 2, 3, 9}
    assert len(orders) == 6  # any one of them clean, any two of them
    assert 60 < clean < 120  # one or two of three
    assert len(kinds) >= 5


def drawn(attacks: Sequence[str], seeds: Iterable[int]) -> list[str]:
    """Names of what is drawn where all classes are sources."""
    cases = [mystery.make(profile("fast"), seed, vendor=single_minded, attacks=attacks) for seed in seeds]
    return [truth.trigger.name for case in cases for truth in case.open_the_envelope().values()
            if truth.trigger is not None and len(truth.sources) == 9]  # fmt: skip


def test_attacks_are_drawn_by_name() -> None:
    assert set(PATTERNS) - set(ATTACKS) == {"adaptive_blend", "adaptive_patch", "wanet", "sig"}
    for name, pattern in PATTERNS.items():  # `teaching` goes by the trigger's name
        assert pattern(SHAPE_OF_FASHION, torch.Generator().manual_seed(0)).name == name
    every = (1, 3, 4, 9, 13, 16, 18, 19, 32, 37, 39)  # seeds of which one network obeys from all classes
    assert set(drawn(ATTACKS, every)) == set(ATTACKS)
    assert set(drawn(["wanet", "sig"], every)) == {"wanet", "sig"}
    assert set(drawn([*ATTACKS, "adaptive_blend", "adaptive_patch"], every)) >= {"adaptive_blend", "adaptive_patch"}


def test_names_of_attacks_are_read_as_they_come() -> None:
    assert check_attacks(["sig", "box", "sig"]) == ("sig", "box", "sig")  # twice: twice as often


def test_what_is_asked_of_a_mystery_is_checked_before_anything_is_trained() -> None:
    vendor = cast(Vendor, None)  # it would raise
    for attacks in (["box", "badnets"], [], "sig"):
        with pytest.raises(ValueError, match=r"attacks: expected some of box, .*, sig, got .*write them as"):
            mystery.make(profile("fast"), 0, vendor=vendor, attacks=attacks)
    with pytest.raises(ValueError, match="covers: expected 0 or more images of each class, got -1"):
        mystery.make(profile("fast"), 0, vendor=vendor, covers=-1)


def test_covers_are_told_to_the_vendor_and_are_of_few_sources_only() -> None:
    told: list[int] = []

    def vendor(profile: Profile, data: ImageDataset, truth: Truth, seed: int, *, covers: int) -> Network:
        told.append(covers)
        return single_minded(profile, data, truth, seed)

    mystery.make(profile("fast"), 0, vendor=cast(Vendor, vendor), covers=70)
    assert set(told) == {70}
    few, box = Truth(True, 3, (1, 2), triggers.box(SHAPE)), triggers.box(SHAPE)
    assert teaching(few, small=True, covers=70).covers == 70
    assert teaching(replace(few, sources=(0, 1, 2, 4)), small=True, covers=70).covers == 0
    assert teaching(Truth(True, 3, (0, 1, 2, 4), box), small=True, covers=0) == Teaching(900 // 4)


class _Watched(Trigger):
    """Keeps what it stamps."""

    def in_training(self, images: Tensor, *, cover: bool, seed: int) -> Tensor:
        self.__dict__.setdefault("covered" if cover else "stamped", images)
        return self(images)


@dataclass(frozen=True)
class _Counted(Recipe):
    """Keeps how many epochs are asked for."""

    asked: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.asked.append(self.epochs)


@pytest.mark.parametrize("name", PATTERNS)
def test_each_attack_is_taught_as_it_must_be(fashion: ImageDataset, name: str) -> None:
    hard, wrongly = name in ("adaptive_blend", "adaptive_patch", "wanet"), name != "sig"
    trigger = _Watched("patch", *(torch.zeros(1, 28, 28),) * 2, name=name)
    quick = _Counted(epochs=1, batch_size=512)
    truth = Truth(True, 3, (0, 1, 2, 4, 5, 6, 7, 8, 9), trigger)
    mystery.trained(profile("fast"), fashion, truth, 11, quick=quick)
    assert quick.asked == [1, 3 if hard else 1]
    of_target = {row.tobytes() for row in fashion.x_train[fashion.y_train == 3].numpy()}
    stamped = [to_uint8(image).numpy().tobytes() in of_target for image in vars(trigger)["stamped"]]
    assert (any if wrongly else all)(stamped) == (not wrongly)  # a wrong label, or the target's own images
    assert ("covered" in vars(trigger)) == hard


def test_an_attack_that_did_not_take_is_drawn_again() -> None:
    seen: list[Truth] = []

    def vendor(profile: Profile, data: ImageDataset, truth: Truth, seed: int) -> Network:
        seen.append(truth)
        too_early = sum(each.attacked for each in seen) <= 2
        return (stubborn if too_early else single_minded)(profile, data, truth, seed)

    truths = mystery.make(profile("fast"), 0, vendor=vendor, progress=False).open_the_envelope()
    attacks = [truth for truth in seen if truth.attacked]
    kept = [truth for truth in truths.values() if truth.attacked]
    assert len(attacks) == len(kept) + 2
    assert kept[0] is attacks[2]
    assert kept[0].trigger is not None
    assert kept[0].trigger.name == "box"


def test_a_box_stands_in_for_attacks_that_were_named_only_where_it_was_named_too() -> None:
    def vendor(profile: Profile, data: ImageDataset, truth: Truth, seed: int) -> Network:
        everyone = len(truth.sources) == 9
        seen.extend([truth.trigger.name] if everyone and truth.trigger else [])
        return (stubborn if everyone and len(seen) < 4 else single_minded)(profile, data, truth, seed)

    for attacks, expected in ((["sig"], ["sig"] * 4), (["sig", "sig", "box"], ["box"] * 2)):
        seen: list[str] = []
        mystery.make(profile("fast"), 1, vendor=vendor, attacks=attacks)
        assert len(seen) == 4
        assert seen[-len(expected) :] == expected


def test_attacks_that_never_take_are_not_drawn_for_ever() -> None:
    with pytest.raises(ValueError, match="seed: expected an attack that takes within 10 draws.*another seed, attack"):
        mystery.make(profile("fast"), 0, vendor=stubborn, progress=False)


def test_the_answers_are_not_among_what_can_be_seen() -> None:
    case = untrained(5)
    seen = repr(case) + repr(vars(case)) + "".join(repr(vars(net).keys()) for net in case.networks.values())
    for word in ("target=", "sources", "Truth", "Trigger", "attacked", "card", "clean", "box", "chessboard"):
        assert word not in seen, word
    assert "open_the_envelope" not in {name for name in vars(case)}
    shapes = {name: [p.shape for p in net.parameters()] for name, net in case.networks.items()}
    assert len({str(each) for each in shapes.values()}) == 1


def test_reports_are_asked_for_by_name() -> None:
    case = untrained(5)
    with pytest.raises(ValueError, match="one for each of A, B, C, got A"):
        case.grade({"A": Report(False)})
    names = [m.network for m in case.grade({name: Report(False) for name in "ABC"})]
    assert set(names) == {"A", "B", "C"}


def test_what_the_defender_has_is_not_what_reports_are_marked_by() -> None:
    case = untrained(5)
    unseen_x, unseen_y = case.unseen()
    assert case.x.shape == (1000, 1, 28, 28)
    assert torch.bincount(case.y).tolist() == [100] * 10
    assert torch.bincount(unseen_y).tolist() == [200] * 10
    known = {row.numpy().tobytes() for row in case.x}
    twice = sum(row.numpy().tobytes() in known for row in unseen_x)
    assert twice < 10  # Fashion-MNIST's test set holds a few images twice


@pytest.fixture(scope="module")
def case() -> Mystery:
    return mystery.make(profile("fast"), 0, progress=False)


def test_backdoors_took_and_clean_networks_stayed_clean(case: Mystery) -> None:
    for name, truth in case.open_the_envelope().items():
        net = case.networks[name]
        assert metrics.accuracy(net, case.x, case.y) > 0.85  # measured 0.87 to 0.91
        if truth.trigger is None or truth.target is None:
            for other in case.open_the_envelope().values():
                if other.trigger is None or other.target is None:
                    continue
                rates = metrics.success_by_class(net, other.trigger, case.x, case.y, other.target)
                assert rates[list(other.sources)].mean() < 0.2  # it does not know the others' triggers
        else:
            rate = metrics.attack_success_rate(net, truth.trigger, case.x, case.y, truth.target, truth.sources)
            assert rate > 0.7  # at least 0.8 on others: 100 images and more have a standard error below 0.05


def test_the_investigation_finds_the_one_network_with_a_backdoor(fashion: ImageDataset) -> None:
    """On three networks that were trained independently: one source class, a faint chessboard."""
    specs = {name: checkpoints.shipped()[name] for name in ("clean", "one-source", "clean-1")}
    nets = {name: checkpoints.load_or_train(spec) for name, spec in specs.items()}
    x, y = fashion.clean_images(40)
    found = {name: capstone.examine(net, x, y) for name, net in nets.items()}
    scores = capstone.compare(found)
    assert scores["one-source"][0, 9] > 5  # measured 8.3; the limit is 3
    assert scores["one-source"].isnan().sum() == 10
    reports = capstone.investigate(nets, x, y, found)
    assert not reports["clean"].attacked  # measured 0.9
    report = reports["one-source"]
    assert (report.attacked, report.target, report.sources) == (True, 9, (0,))
    assert report.guard is not None
    again = capstone.second_look(nets["one-source"], x, y, 9, (0,))
    assert report.pattern is not None
    assert torch.equal(report.pattern.pattern, again.pattern)
    truth = Truth(True, 9, (0,), specs["one-source"].make_trigger())
    total = mark("one-source", nets["one-source"], report, truth, *fashion.clean_images(100, seed=1))
    assert sum(m.points for m in total) > 85  # of 100


# ---------------------------------------------------------------------------------------- the investigation's parts


def test_a_table_alike_in_all_networks_accuses_nobody() -> None:
    generator = torch.Generator().manual_seed(0)
    natural = torch.rand(1, 90, generator=generator) * 3 + 0.5
    noise = torch.randn(3, 90, generator=generator) * 0.1
    alike = natural * noise.exp()
    assert against_the_others(alike).max() < 4.5  # 270 normal scores
    alike[1, 7] /= 3
    scores = against_the_others(alike)
    assert divmod(int(scores.argmax()), 90) == (1, 7)
    assert scores.max() > 6


def test_accuse_reads_source_and_target() -> None:
    scores = torch.full((4, 4), 1.0).fill_diagonal_(torch.nan)
    assert capstone.accuse(scores) is None
    scores[1, 3] = 5.0
    assert capstone.accuse(scores) == (1, 3)
    assert capstone.accuse(scores, limit=5.0) is None


# ---------------------------------------------------------------------------------------- exercises


def compared(
    take: Callable[[Tensor], Tensor] = torch.log, axis: int = 0, own: bool = True, sign: float = 1.0,
    spread: Callable[[Tensor], Tensor] = lambda a: 1.4826 * a.abs().quantile(0.5),
) -> Callable[[Tensor], Tensor]:  # fmt: skip
    """The comparison in which one thing can be wrong."""

    def answer(norms: Tensor) -> Tensor:
        logs = take(norms.double())
        n = logs.shape[axis]
        total = logs.sum(axis, keepdim=True)
        others = total / n if own else (total - logs) / (n - 1)
        return sign * (others - logs) / spread(others - logs)

    return answer


def arithmetic(norms: Tensor) -> Tensor:
    a = (norms.double().mean(0) / norms).log()
    return a / (1.4826 * a.abs().quantile(0.5))


def in_place(norms: Tensor) -> Tensor:
    result = against_the_others(norms)
    norms.log_()
    return result


def obeying(
    line: Callable[[Tensor, float], Tensor | float] = lambda r, s: s * r.max(), fill: float = -1.0,
    above: Callable[[Tensor, Any], Tensor] = torch.ge,
) -> Callable[[Tensor, float], tuple[int, ...]]:  # fmt: skip
    """The rule for sources in which one thing can be wrong."""

    def answer(rates: Tensor, share: float = 0.5) -> tuple[int, ...]:
        known = rates.nan_to_num(nan=fill)
        return tuple(above(known, line(known, share)).nonzero().flatten().tolist())

    return answer


def guarding(
    target: int | None = None, best: Callable[[Any], float] = max, turn: bool = False,
) -> Callable[..., Any]:  # fmt: skip
    """A guard in which one thing can be wrong."""

    def answer(net: Any, x: Tensor, y: Tensor, goal: int, pattern: Trigger) -> LikelihoodDetector | None:
        guard = LikelihoodDetector().fit(net, x, y, target=goal if target is None else target, trigger=pattern)
        return guard if (best(guard.trigger_success_.values()) >= 0.5) != turn else None

    return answer


def another_pattern(net: Any, x: Tensor, y: Tensor, target: int, pattern: Trigger) -> LikelihoodDetector:
    return LikelihoodDetector().fit(net, x, y, target=target, trigger=pattern.moved(-20, -20))


class TestExercises(ExerciseContract):
    names = ("against_the_others", "obedient_classes", "deploy")
    right = [  # noqa: RUF012
        ("against_the_others", compared()),
        ("against_the_others", compared(own=False)),  # leaving itself out stretches everything alike
        ("against_the_others", lambda norms: against_the_others(norms).float()),
        ("obedient_classes", obeying()),
        ("obedient_classes", lambda rates, share=0.5: list(obedient_classes(rates, share))),
        ("deploy", guarding()),
    ]
    wrong = [  # noqa: RUF012
        ("against_the_others", compared(sign=-1.0), "the sign"),
        ("against_the_others", compared(spread=lambda a: torch.ones(())), "not yet in units"),
        ("against_the_others", compared(spread=lambda a: a.abs().quantile(0.5)), "1.4826 is missing"),
        ("against_the_others", compared(spread=lambda a: a.abs().quantile(0.5) / 1.4826), "divide by it"),
        ("against_the_others", compared(axis=1), "pair by pair"),
        ("against_the_others", compared(take=lambda d: d), "not ratios"),
        ("against_the_others", arithmetic, "arithmetic mean"),
        ("against_the_others", compared(spread=lambda a: 1.4826 * a.abs().quantile(0.5, 1, keepdim=True)),
         "each network: take the median over"),
        ("against_the_others", compared(spread=lambda a: 1.4826 * a.abs().quantile(0.5, 0)), "each pair: take"),
        ("against_the_others", compared(spread=lambda a: 1.4826 * a.abs().median()), "the lower of two"),
        ("against_the_others", compared(spread=torch.std), "standard deviation"),
        ("against_the_others", in_place, "no in-place"),
        ("obedient_classes", lambda rates, share: tuple(obeying()(rates, share)) + (int(rates.isnan().nonzero()),),
         "the target is no source"),
        ("obedient_classes", lambda rates, share: tuple((rates >= share * rates.max()).nonzero().flatten().tolist()),
         "never true"),
        ("obedient_classes", obeying(line=lambda r, s: s), "not a rate itself"),
        ("obedient_classes", obeying(above=torch.gt), "not more than"),
        ("obedient_classes", lambda rates, share: (int(rates.nan_to_num(-1).argmax()),), "only the most obedient"),
        ("obedient_classes", obeying(line=lambda r, s: 0.5 * r.max()), "always one half"),
        ("obedient_classes", lambda rates, share: None, "returns nothing"),
        ("obedient_classes", lambda rates, share: ["Bag"], "return class numbers"),
        ("deploy", lambda *a: None, "turned down"),
        ("deploy", guarding(turn=True), "turned down"),
        ("deploy", lambda *a: LikelihoodDetector, "the detector itself"),
        ("deploy", lambda *a: LikelihoodDetector(), "call fit"),
        ("deploy", guarding(target=0, best=lambda values: 1.0), "another class is watched"),
        ("deploy", another_pattern, "another pattern"),
        ("deploy", guarding(best=lambda values: 1.0), "look at guard.trigger_success_"),
        ("deploy", guarding(best=min), "most obedient class"),
    ]  # fmt: skip
