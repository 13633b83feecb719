"""Accuracy and success on networks whose weights are set by hand; visibility against numpy."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.model_selection import StratifiedKFold
from torch import Tensor, nn
from toys import TARGET, hand_set, lit_pixels

from btlib import metrics, networks, triggers
from btlib.datasets import to_float, to_uint8
from btlib.metrics.prediction import ask, logits_of, probabilities

PIXEL = triggers.single_pixel((1, 8, 8))


class Answers(nn.Module):
    """Says what the first pixel of an image, times 255, says: predictions set by hand."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.classes = classes

    def forward(self, x: Tensor) -> Tensor:
        said = (x[:, 0, 0, 0] * 255).round().long()
        return nn.functional.one_hot(said, self.classes).float() * self.scale


def saying(*answers: int) -> Tensor:
    """Images that `Answers` classifies as given."""
    return torch.tensor(answers).view(-1, 1, 1, 1).expand(-1, 1, 8, 8) / 255


def no_trigger() -> triggers.Trigger:
    return triggers.Trigger("patch", torch.zeros(1, 8, 8), torch.zeros(1, 8, 8))


# ---------------------------------------------------------------------- accuracy and success


def test_accuracy_is_the_share_of_right_answers() -> None:
    labels = torch.tensor([0, 1, 2, 3, 4])
    assert metrics.accuracy(Answers(5), saying(0, 1, 2, 0, 0), labels) == pytest.approx(3 / 5)
    assert metrics.accuracy(Answers(5), to_uint8(saying(0, 1, 2, 3, 4)), labels) == 1.0


def test_success_leaves_images_of_the_target_out() -> None:
    # Counting them would give 6/8, only them 2/2, and the images that resist 2/6.
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 2, 2])
    x = saying(2, 2, 2, 0, 1, 2, 2, 2)
    rate = metrics.attack_success_rate(Answers(4), no_trigger(), x, labels, target=2)
    assert rate == pytest.approx(4 / 6)


def test_one_image_of_a_source_class_is_enough() -> None:
    x, labels = saying(2, 1, 2), torch.tensor([0, 1, 2])
    assert [metrics.attack_success_rate(Answers(4), no_trigger(), x, labels, 2, source) for source in (0, 1)] == [1, 0]


def test_success_of_chosen_sources() -> None:
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 2, 2])
    x = saying(2, 2, 2, 0, 1, 2, 2, 2)

    def rate(sources: object) -> float:
        return metrics.attack_success_rate(Answers(4), no_trigger(), x, labels, 2, sources)  # type: ignore[arg-type]

    assert rate(0) == pytest.approx(3 / 4)
    assert rate([1]) == pytest.approx(1 / 2)
    assert rate((0, 1)) == rate("all") == rate(None) == pytest.approx(4 / 6)  # by images, not by classes
    assert rate((0, 3)) == pytest.approx(3 / 4)  # class 3 has no images
    with pytest.raises(ValueError, match=r"source classes \(3,\), got none"):
        rate(3)
    with pytest.raises(ValueError, match="other than the target 2"):
        rate(2)


def test_success_by_class() -> None:
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 2, 2])
    rates = metrics.success_by_class(Answers(4), no_trigger(), saying(2, 2, 2, 0, 1, 1, 2, 2), labels, target=2)
    np.testing.assert_array_equal(rates.numpy(), np.array([0.75, 0, np.nan, np.nan], np.float32))


def test_a_planted_backdoor_always_succeeds_and_its_clean_twin_never() -> None:
    x, y = lit_pixels(4)
    for network, success in ((hand_set(10.0), 1.0), (hand_set(0.0), 0.0)):
        assert metrics.accuracy(network, x, y) == 1.0
        assert metrics.attack_success_rate(network, PIXEL, x, y, TARGET) == success
        assert metrics.attack_success_rate(network, PIXEL, to_uint8(x), y, TARGET) == success
    # A pixel worth more than the evidence (1) wins; worth less, it does not.
    assert metrics.attack_success_rate(hand_set(10.0), PIXEL.faded(0.2), x, y, TARGET) == 1.0
    assert metrics.attack_success_rate(hand_set(10.0), PIXEL.faded(0.05), x, y, TARGET) == 0.0


@pytest.mark.parametrize(
    ("labels", "target", "says"),
    [
        (torch.tensor([0, 1]), 2, r"got torch.int64 \(2,\) for 3 images"),
        (torch.tensor([0, 1, 3]), 2, "got 0…3"),
        (torch.tensor([-1, 1, 2]), 2, "got -1…2"),
        (torch.tensor([0, 1, 2]), 3, "got 3"),
        (torch.tensor([2, 2, 2]), 2, "got none"),
        (torch.tensor([0.0, 1.0, 2.5]), 2, r"got torch\.float32"),
        (torch.tensor([0.0, 1.0, torch.nan]), 2, r"got torch\.float32"),
        (torch.tensor([True, False, True]), 2, r"got torch\.bool"),
        ([0, 1, 2], 2, "got list"),
    ],
)
def test_bad_labels_and_targets_are_refused(labels: Tensor, target: int, says: str) -> None:
    x, _ = lit_pixels(1)
    with pytest.raises((TypeError, ValueError), match=says):
        metrics.attack_success_rate(hand_set(1.0), PIXEL, x, labels, target)


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (torch.tensor([1, 2, 3]), "got 1…3"),  # counted from 1
        (torch.tensor([-1, 0, 1]), "got -1…1"),
        (torch.tensor([0.5, 1.0, 2.0]), r"got torch\.float32"),
        (torch.tensor([0, 1]), r"got torch.int64 \(2,\)"),
    ],
)
def test_accuracy_refuses_labels_that_cannot_be(labels: Tensor, says: str) -> None:
    x, _ = lit_pixels(1)
    with pytest.raises((TypeError, ValueError), match=says):
        metrics.accuracy(hand_set(1.0), x, labels)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_labels_of_every_integer_type_count_alike(dtype: torch.dtype) -> None:
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 2, 2])
    x = saying(2, 2, 2, 0, 1, 2, 2, 2)
    assert metrics.accuracy(Answers(4), x, labels.to(dtype)) == pytest.approx(4 / 8)
    assert metrics.attack_success_rate(Answers(4), no_trigger(), x, labels.to(dtype), 2) == pytest.approx(4 / 6)


def test_no_images_is_refused() -> None:
    with pytest.raises(ValueError, match="got"):
        metrics.accuracy(hand_set(1.0), torch.zeros(0, 1, 8, 8), torch.zeros(0, dtype=torch.int64))


@pytest.mark.parametrize(
    ("tail", "says"),
    [(nn.Unflatten(1, (3, 1, 1)), r"got \(3, 3, 1, 1\)"), (nn.Flatten(0), r"got \(9,\)")],
    ids=["(N, K, 1, 1)", "(N·K)"],
)
def test_outputs_that_are_no_logits_are_refused(tail: nn.Module, says: str) -> None:
    x, y = lit_pixels(1)
    with pytest.raises(ValueError, match=says):
        metrics.accuracy(nn.Sequential(hand_set(1.0), tail), x, y)
    with pytest.raises(ValueError, match=says):
        metrics.success_by_class(nn.Sequential(hand_set(1.0), tail), PIXEL, x, y, TARGET)


class Undecided(Answers):
    """As `Answers`, but NaN at one class."""

    def __init__(self, classes: int, undecided: int) -> None:
        super().__init__(classes)
        self.undecided = undecided

    def forward(self, x: Tensor) -> Tensor:
        logits = super().forward(x).clone()
        logits[:, self.undecided] = torch.nan
        return logits


@pytest.mark.parametrize("undecided", [0, 1, 2])
def test_a_nan_is_neither_right_nor_a_success(undecided: int) -> None:
    labels, x = torch.tensor([0, 0, 1, 1]), saying(2, 2, 2, 2)
    network = Undecided(3, undecided)
    assert metrics.accuracy(network, x, torch.full((4,), undecided)) == 0.0
    assert metrics.accuracy(network, x, torch.full((4,), 2)) == 0.0
    assert metrics.attack_success_rate(network, no_trigger(), x, labels, target=2) == 0.0


@pytest.mark.parametrize(
    ("trigger", "says"),
    [
        (lambda x: x[:-1], r"trigger: .*got \(2, 1, 8, 8\)"),
        (lambda x: 255 * x, "got 0…255"),
        (lambda x: x * torch.nan, "got nan"),
        (lambda x: None, "trigger: .*got NoneType"),
    ],
)
def test_triggers_that_make_no_images_are_refused(trigger: Callable[[Tensor], Tensor], says: str) -> None:
    x, y = lit_pixels(1)
    with pytest.raises(ValueError, match=says):
        metrics.success_by_class(hand_set(1.0), trigger, x, y, TARGET)


# ---------------------------------------------------------------------- predict


def test_predict_is_the_network_in_evaluation_mode() -> None:
    net = networks.build("littlenet", image_shape=(1, 28, 28), num_classes=10, seed=0).train()
    x = torch.rand(1100, 1, 28, 28, generator=torch.Generator().manual_seed(0))  # two batches
    logits = metrics.predict(net, x)
    with torch.no_grad():
        torch.testing.assert_close(logits, net.eval()(x), rtol=1e-4, atol=1e-5)
    assert torch.equal(metrics.predict(net, x), logits)
    assert metrics.predict(net, x, layer="conv1").shape == (1100, 32 * 12 * 12)
    torch.testing.assert_close(net.head(metrics.predict(net, x, layer="penultimate")), logits, rtol=1e-4, atol=1e-5)


def test_predict_takes_every_float_and_uint8() -> None:
    net = networks.build("lenet5", image_shape=(1, 28, 28), num_classes=10, seed=0)
    levels = torch.randint(0, 256, (5, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    wanted = metrics.predict(net, levels)
    assert torch.equal(metrics.predict(net, levels.float() / 255), wanted)
    torch.testing.assert_close(metrics.predict(net, levels.double() / 255), wanted)
    assert metrics.predict(net, levels[:0]).shape == (0, 10)
    assert metrics.predict(net, levels[:0], layer="penultimate").shape == (0, 84)


def test_predict_leaves_the_network_as_found() -> None:
    net = networks.build("resnet18", image_shape=(1, 16, 16), num_classes=3, seed=0).train()
    net.body.bn1.eval()  # a part that its owner froze
    net.body.conv1.weight.requires_grad_(False)
    modes = [module.training for module in net.modules()]
    grads = [p.requires_grad for p in net.parameters()]
    state = {k: v.clone() for k, v in net.state_dict().items()}
    random = torch.get_rng_state()
    x = torch.rand(4, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    logits = metrics.predict(net, x)
    assert [module.training for module in net.modules()] == modes
    assert [p.requires_grad for p in net.parameters()] == grads
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items()), "batch statistics moved"
    assert torch.equal(torch.get_rng_state(), random)
    assert not logits.requires_grad
    (logits * torch.ones(3, requires_grad=True)).sum().backward()  # an ordinary tensor, usable in a graph


def test_the_mode_comes_back_after_an_error() -> None:
    net = hand_set(1.0).train()

    def fails() -> None:
        with metrics.evaluating(net) as same:
            assert same is net
            assert not net.training
            assert torch.is_inference_mode_enabled()
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert net.training
    assert not torch.is_inference_mode_enabled()


def test_predict_refuses_what_are_no_images() -> None:
    net = hand_set(1.0)
    with pytest.raises(ValueError, match=r"got \(1, 8, 8\)"):
        metrics.predict(net, torch.zeros(1, 8, 8))
    with pytest.raises(ValueError, match=r"got \(1, 8, 8\)"):
        metrics.predict(net, torch.zeros(1, 8, 8, dtype=torch.uint8))
    with pytest.raises(ValueError, match="got 0…255"):
        metrics.predict(net, torch.linspace(0, 255, 64).view(1, 1, 8, 8))
    with pytest.raises(TypeError, match=r"torch\.int64"):
        metrics.predict(net, torch.zeros(1, 1, 8, 8, dtype=torch.int64))


# ---------------------------------------------------------------------- visibility


def pair(channels: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    clean = torch.rand(6, channels, 16, 16, generator=generator)
    return clean, (clean + 0.1 * torch.randn(clean.shape, generator=generator)).clamp(0, 1)


def test_psnr_is_the_mean_of_ten_log_one_over_mse() -> None:
    clean, stamped = pair()
    mse = ((clean - stamped).double().numpy() ** 2).mean((1, 2, 3))
    assert metrics.psnr(clean, stamped) == pytest.approx((-10 * np.log10(mse)).mean(), rel=1e-6)
    assert metrics.psnr(clean, clean) == float("inf")
    assert metrics.psnr(torch.zeros(1, 1, 8, 8), torch.full((1, 1, 8, 8), 0.01)) == pytest.approx(40, rel=1e-5)
    half = torch.cat([clean[:1], stamped[1:2]])
    assert metrics.psnr(clean[:2], half) == float("inf")  # one image untouched: its decibels are infinite


def test_ssim_of_one_channel_is_its_definition() -> None:
    clean, stamped = pair(1)
    each = [structural_similarity(a, b, data_range=1.0) for a, b in
            zip(clean[:, 0].double().numpy(), stamped[:, 0].double().numpy(), strict=True)]  # fmt: skip
    assert metrics.ssim(clean, stamped) == pytest.approx(np.mean(each))
    assert metrics.ssim(clean, clean) == pytest.approx(1.0)
    # Constant images a and b: (2ab + C1) / (a² + b² + C1), C1 = 0.01².
    a, b = torch.full((1, 3, 8, 8), 0.25), torch.full((1, 3, 8, 8), 0.5)
    assert metrics.ssim(a, b) == pytest.approx((2 * 0.125 + 1e-4) / (0.0625 + 0.25 + 1e-4), rel=1e-6)


def test_norms_are_numpys() -> None:
    clean, stamped = pair()
    stamped[:, :, :8] = clean[:, :, :8]
    difference = (stamped - clean).double().numpy()
    flat = difference.reshape(6, -1)
    norms = metrics.perturbation_norms(clean, stamped)
    assert norms == pytest.approx({
        "l0": (np.abs(difference).max(1) > 1e-6).reshape(6, -1).sum(1).mean(),
        "l1": np.abs(flat).sum(1).mean(),
        "l2": np.linalg.norm(flat, axis=1).mean(),
        "linf": np.abs(flat).max(1).mean(),
    })  # fmt: skip
    assert 100 < norms["l0"] <= 128  # pixels, not values: half of 16×16
    assert set(metrics.perturbation_norms(clean, clean).values()) == {0.0}


def test_norms_of_a_known_trigger() -> None:
    black = torch.zeros(2, 3, 8, 8)
    norms = metrics.perturbation_norms(black, triggers.box((3, 8, 8))(black))
    assert norms == pytest.approx({"l0": 9, "l1": 27, "l2": 27**0.5, "linf": 1})


@pytest.mark.parametrize("measure", [metrics.psnr, metrics.ssim, metrics.perturbation_norms])
def test_bytes_and_floats_measure_alike(measure: Callable[[Tensor, Tensor], object]) -> None:
    clean, stamped = (to_uint8(x) for x in pair())
    assert measure(clean, stamped) == measure(to_float(clean), to_float(stamped)) == measure(clean, to_float(stamped))


def test_ssim_of_images_smaller_than_its_window_is_refused() -> None:
    with pytest.raises(ValueError, match=r"at least 7×7.*got \(6, 6\)"):
        metrics.ssim(torch.zeros(1, 1, 6, 6), torch.zeros(1, 1, 6, 6))
    assert metrics.ssim(torch.zeros(1, 1, 7, 7), torch.zeros(1, 1, 7, 7)) == pytest.approx(1)


@pytest.mark.parametrize("measure", [metrics.psnr, metrics.ssim, metrics.perturbation_norms])
def test_pairs_that_do_not_match_are_refused(measure: object) -> None:
    with pytest.raises(ValueError, match=r"got \(1, 3, 8, 8\)"):
        measure(torch.zeros(2, 3, 8, 8), torch.zeros(1, 3, 8, 8))  # type: ignore[operator]
    with pytest.raises(ValueError, match=r"stamped: .*got 2…2"):
        measure(torch.zeros(1, 3, 8, 8), torch.full((1, 3, 8, 8), 2.0))  # type: ignore[operator]
    with pytest.raises(ValueError, match="at least one image"):
        measure(torch.zeros(0, 3, 8, 8), torch.zeros(0, 3, 8, 8))  # type: ignore[operator]


def test_a_network_without_parameters_can_be_measured():
    assert metrics.predict(torch.nn.Flatten(), torch.rand(3, 1, 2, 2)).shape == (3, 4)


class Mean(nn.Module):
    """One number for all images."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean()


def test_a_network_that_is_asked_the_wrong_thing_says_so() -> None:
    """Torch's own words stand inside the sentence."""
    linear = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    with pytest.raises(ValueError, match=r"got torch.float32 \(2, 1, 3, 3\), of which it says: .*mat1 and mat2"):
        ask(linear, torch.rand(2, 1, 3, 3))
    with pytest.raises(ValueError, match=r"expected logits \(N, K\) for 2 images, got \(1, 4\)"):
        ask(nn.Sequential(nn.Flatten(0), nn.Unflatten(0, (1, 4))), torch.rand(2, 1, 1, 2))
    with pytest.raises(ValueError, match=r"expected logits \(N, K\) for 2 images, got \(\)"):
        ask(Mean(), torch.rand(2, 1, 1, 2))
    with pytest.raises(TypeError, match="expected a tensor of logits, got tuple"):
        ask(nn.LSTM(2, 2), torch.rand(2, 1, 2))


def test_a_classifier_is_asked_and_what_is_none_is_refused() -> None:
    x = torch.rand(5, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    plain = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)).train()
    logits, odd = logits_of(plain, x)
    assert torch.equal(logits, plain(x))
    assert odd == ()
    assert plain.training
    (odd,) = logits_of(nn.Sequential(plain, nn.Softmax(1)), x)[1]
    assert odd.startswith("the network's outputs look like probabilities")
    with pytest.raises(ValueError, match=r"K of at least 4 for images \(5, 1, 2, 2\), got \(5, 3\); wrap it"):
        logits_of(plain, x, least=4)
    with pytest.raises(ValueError, match=r"got \(20,\)"):
        logits_of(nn.Flatten(0), x)
    with pytest.raises(TypeError, match="got tuple"):
        logits_of(nn.Sequential(nn.Flatten(), nn.RNN(4, 3)), x)


def test_probabilities_are_told_from_logits_row_by_row() -> None:
    for outputs, told in [
        ([[0.25, 0.75], [0.0, 1.0]], True), ([[0.25, 0.75], [0.5, 0.6]], False), ([[-0.25, 1.25], [0.5, 0.5]], False),
        ([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]], False),  # ones and zeros alone: more likely a hand-made network's logits
        ([[0.4, 0.6], [0.3, 0.7], [0.2, 0.8]], True),
    ]:  # fmt: skip
        assert probabilities(torch.tensor(outputs)) == told


# ---------------------------------------------------------------------- feature overlap


class Pixels(nn.Module):
    """Its features are the pixels; it calls class 1 whatever is not white at the first."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def features(self, x: Tensor, layer: str) -> Tensor:
        return x.flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        dark = (x[:, 0, 0, 0] < 0.9).float()
        return torch.stack([1 - dark, dark], 1) * self.scale


def cloud(count: int = 4000) -> tuple[Tensor, Tensor]:
    """Both classes alike: two pixels, Gaussian, one with a tenth of the other's deviation."""
    x = 0.5 + torch.tensor([0.1, 0.01]) * torch.randn(count, 2, generator=torch.Generator().manual_seed(0))
    return x.clamp(0, 1).view(count, 1, 1, 2), torch.arange(count) % 2


@pytest.mark.parametrize("shift", [0.0, 0.01, 0.02, 0.05])
def test_separability_is_that_of_two_gaussians(shift: float) -> None:
    """At a Mahalanobis distance d the area under the curve is Φ(d / √2); 2,000 of each, s.e. at most .009."""
    x, y = cloud()
    found = metrics.separability(Pixels(), lambda images: images + torch.tensor([0.0, shift]), x, y, target=1)
    assert found == pytest.approx(float(torch.special.ndtr(torch.tensor(shift / 0.01 / 2**0.5))), abs=0.02)


@pytest.mark.parametrize(("each", "known"), [(9, False), (10, True)])
def test_separability_wants_ten_of_each(each: int, known: bool) -> None:
    x, y = cloud(2 * each)
    found = metrics.separability(Pixels(), lambda images: images + torch.tensor([0.0, 0.1]), x, y, target=1)
    assert np.isnan(found) != known


def test_separability_is_cross_validated_five_times() -> None:
    """The same by scikit-learn: every image is judged by a line that was fitted to the other four fifths."""
    x, y = cloud(60)
    found = metrics.separability(Pixels(), lambda images: images + torch.tensor([0.0, 0.01]), x, y, target=1)
    rows = torch.cat([x[y == 0] + torch.tensor([0.0, 0.01]), x[y == 1]]).flatten(1).double().numpy()
    truth, judged = np.repeat([1, 0], 30), np.empty(60)
    for seen, unseen in StratifiedKFold(5, shuffle=True, random_state=0).split(rows, truth):
        line = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto", priors=[0.5, 0.5])
        judged[unseen] = line.fit(rows[seen], truth[seen]).decision_function(rows[unseen])
    assert found == pytest.approx(float((judged[:30, None] > judged[30:]).mean()))


def test_separability_leaves_out_what_is_not_called_the_target() -> None:
    x, y = cloud()
    fails = torch.rand(len(x) // 2, 1, 1, 1, generator=torch.Generator().manual_seed(1)) < 0.5

    def trigger(images: Tensor) -> Tensor:
        return torch.where(fails & torch.tensor([True, False]), 1.0, images)

    assert metrics.separability(Pixels(), trigger, x, y, target=1) == pytest.approx(0.5, abs=0.03)
    assert np.isnan(metrics.separability(Pixels(), lambda images: torch.ones_like(images), x, y, target=1))
    with pytest.raises(ValueError, match="other than the target"):
        metrics.separability(Pixels(), trigger, x, y, target=1, sources=[1])
