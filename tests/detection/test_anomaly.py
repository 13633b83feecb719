import numpy as np
import pytest
from scipy import special, stats

from btlib.detection import anomaly
from btlib.detection.gamma import gamma_fit, ratios, shape_of_ratios


def test_the_index_is_the_true_median_and_mad_by_hand():
    norms = np.array([10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 5.0])
    median = np.median(norms)  # 45, between the two middle values
    expected = (median - norms) / (1.4826 * np.median(np.abs(norms - median)))
    np.testing.assert_allclose(anomaly.mad_index(norms), expected)
    assert median == 45


def test_the_lower_median_would_give_another_index():
    norms = np.array([9.0, 50.0, 55.0, 60.0, 64.0, 70.0, 74.0, 80.0, 85.0, 90.0])
    lower = np.sort(norms)[4]
    wrong = (lower - norms[0]) / (1.4826 * np.sort(np.abs(norms - lower))[4])
    assert abs(wrong - anomaly.mad_index(norms)[0]) > 0.2


def test_only_small_norms_are_suspicious():
    index = anomaly.mad_index(np.array([60.0, 61, 62, 63, 64, 300]))
    assert index[5] < -2
    assert index.argmax() == 0


def test_equal_norms_have_index_zero_and_an_outlier_among_them_is_infinite():
    assert anomaly.mad_index(np.full(5, 7.0)).tolist() == [0] * 5
    assert anomaly.mad_index(np.array([7.0, 7, 7, 7, 1]))[4] == np.inf


def test_three_norms_are_enough():
    index = anomaly.mad_index(np.array([1.0, 2.0, 9.0]))  # median 2, MAD 1
    np.testing.assert_allclose(index, np.array([1, 0, -7]) / 1.4826)


@pytest.mark.parametrize("shape", [0.3, 2.0, 40.0, 1000.0])
def test_gamma_fit_is_scipys(shape):
    samples = np.random.default_rng(0).gamma(shape, 3.0, size=(5, 12))
    ours = np.stack(anomaly.gamma_fit(samples), 1)
    for row, (k, scale) in zip(samples, ours, strict=True):
        theirs = stats.gamma.fit(row, floc=0)
        np.testing.assert_allclose([k, scale], [theirs[0], theirs[2]], rtol=1e-4)


def test_published_p_value_is_the_papers_formula():
    r = np.array([0.3, 0.31, 0.35, 0.28, 0.4, 0.33, 0.29, 0.37, 0.32, 0.5])
    shape, _, scale = stats.gamma.fit(np.sort(r)[:-1], floc=0)
    expected = 1 - stats.gamma.cdf(0.5, shape, scale=scale) ** 10
    assert np.exp(anomaly.published_log_p(r)) == pytest.approx(expected, rel=1e-4)


def test_the_p_value_does_not_underflow():
    r = np.array([1.0, 1.01, 0.99, 1.02, 500.0])
    log_p = anomaly.published_log_p(r)
    assert np.isfinite(log_p)
    assert log_p < -1000
    assert np.exp(log_p) == 0


@pytest.mark.parametrize("value", [5.0, 30.0, 200.0])
def test_log_survival_agrees_with_scipy_where_scipy_can(value):
    assert anomaly.log_survival(value, 7.0, 1.5) == pytest.approx(stats.gamma.logsf(value, 7.0, scale=1.5), rel=1e-9)


def test_the_largest_of_three_is_above_a_value_unless_all_are_below():
    survival = np.array([1.0, 0.5, 0.25, 1e-13])
    assert np.exp(anomaly._order_statistic(np.log(survival), 3)) == pytest.approx([1, 7 / 8, 37 / 64, 3e-13], rel=1e-12)


def test_log_survival_beyond_double_precision_goes_on_smoothly():
    # log S falls by about 1/scale per unit far out in the tail
    far = [anomaly.log_survival(x, 3.0, 1.0) for x in (640.0, 650.0, 660.0)]
    assert np.diff(far) == pytest.approx([-10, -10], abs=0.1)


@pytest.mark.parametrize(("shape", "value"), [(1, 700.0), (3, 700.0), (50, 1_000.0), (2_000, 4_500.0), (10**6, 1.1e6)])
def test_log_survival_far_out_is_the_poisson_sum(shape, value):
    # of an integer shape: 1 - G(x) = exp(-x) Σ_{k < shape} x^k / k!
    terms = np.arange(shape) * np.log(value) - special.gammaln(np.arange(shape) + 1)
    exact = special.logsumexp(terms) - value
    assert exact < np.log(1e-280)
    assert anomaly.log_survival(value, float(shape), 1.0) == pytest.approx(exact, rel=1e-6)


@pytest.mark.parametrize("spread", [0.02, 0.01, 0.005, 1e-4, 0.0])
@pytest.mark.parametrize("ratio", [1.2, 1.5, 2.0, 100.0])
def test_the_published_p_value_exists_where_the_others_are_nearly_equal(spread, ratio):
    others = 1 + spread * np.linspace(-1, 1, 9)
    log_p = anomaly.published_log_p(np.append(others, ratio))
    assert np.isfinite(log_p)
    assert log_p < np.log(1e-6)


@pytest.mark.parametrize(("classes", "shape"), [(10, 5.0), (10, 100.0), (43, 5.0)])
def test_the_calibrated_p_value_keeps_its_level_and_the_published_one_does_not(classes, shape):
    rates = anomaly.false_alarm_rate(classes, shape, 0.05, samples=600)
    assert 0.025 < rates["calibrated"] < 0.08  # 0.05 ± 3 standard errors of 0.009
    assert rates["published"] > 0.075 if classes == 43 else rates["published"] > 0.2


def test_calibrated_p_is_small_for_an_outlier_and_reproducible():
    r = np.array([0.3, 0.31, 0.35, 0.28, 0.4, 0.33, 0.29, 0.37, 0.32, 3.0])
    assert anomaly.calibrated_p(r) == 1e-4
    assert anomaly.calibrated_p(r[:-1], draws=200, seed=3) == anomaly.calibrated_p(r[:-1], draws=200, seed=3)
    assert anomaly.calibrated_p(r[:-1]) > 0.05


def test_a_smaller_outlier_is_more_extreme():
    r = np.array([0.3, 0.31, 0.35, 0.28, 0.4, 0.33, 0.29, 0.37, 0.32])
    p = [anomaly.published_log_p(np.append(r, top)) for top in (0.45, 0.6, 1.0, 3.0)]
    assert p == sorted(p, reverse=True)


def pair_norms(planted: float | None) -> np.ndarray:
    norms = np.random.default_rng(0).gamma(50, 0.1, size=(10, 10))
    np.fill_diagonal(norms, np.nan)
    if planted is not None:
        norms[2, 7] = planted
    return norms


def test_pairs_leave_out_the_suspects_column():
    norms = pair_norms(0.5)
    r = 1 / norms
    null = np.delete(r, 7, axis=1)
    shape, _, scale = stats.gamma.fit(null[~np.isnan(null)], floc=0)
    expected = np.log(90) + stats.gamma.logsf(2.0, shape, scale=scale)
    assert anomaly.pairs_log_p(norms) == pytest.approx(expected, rel=1e-3)
    assert anomaly.calibrated_pairs_p(norms) == 1 / 2000


def test_pairs_of_three_targets_are_enough_and_of_two_are_not():
    norms = np.array([[np.nan, 5.0, 4.0], [6.0, np.nan, 0.5], [4.5, 5.5, np.nan]])
    shape, _, scale = stats.gamma.fit(1 / np.array([5.0, 6.0, 4.5, 5.5]), floc=0)
    assert anomaly.pairs_log_p(norms) == pytest.approx(np.log(6) + stats.gamma.logsf(2.0, shape, scale=scale), rel=1e-3)
    with pytest.raises(ValueError, match="at least three targets, each with K - 1 = 2 sources"):
        anomaly.pairs_log_p(norms[:, :2])


def test_pairs_without_a_plant_are_not_flagged():
    assert anomaly.calibrated_pairs_p(pair_norms(None)) > 0.05


def test_the_calibrated_p_value_of_pairs_keeps_its_level_and_the_published_one_does_not():
    # Four classes: the suspect's column is a quarter of all pairs, so what is done with it shows.
    norms = 1 / np.random.default_rng(1).gamma(5.0, size=(600, 4, 4))
    norms[:, range(4), range(4)] = np.nan
    # A simulation of its own for each network: they err apart. Of 199 draws and the network's own p-value ten of 200
    # places are at or below 0.05, so the level is exactly that but for the fitted shape.
    calibrated = np.array([anomaly.calibrated_pairs_p(one, draws=199, seed=i) for i, one in enumerate(norms)]) <= 0.05
    assert 0.023 < calibrated.mean() < 0.077  # 0.05 ± 3 standard errors of 0.009
    assert np.mean([anomaly.pairs_log_p(one) < np.log(0.05) for one in norms]) > 0.2


@pytest.mark.parametrize("shape", [0.4, 5.0, 100.0])
def test_the_shape_of_gammas_is_read_from_their_ratios(shape):
    fits = gamma_fit(ratios((2000, 10), shape, 2, np.random.default_rng(1)))[0]
    # 400 samples behind the table and 2,000 here: medians of fits are known to a few percent
    assert shape_of_ratios(float(np.median(fits)), count=10, references=2) == pytest.approx(shape, rel=0.15)


@pytest.mark.parametrize("bad", [[1.0, 2.0], [1.0, 2.0, np.nan], [1.0, 2.0, 0.0], [[1.0, 2.0, 3.0]]])
@pytest.mark.parametrize("rule", [anomaly.mad_index, anomaly.published_log_p, anomaly.calibrated_p])
def test_bad_statistics_are_refused(rule, bad):
    with pytest.raises(ValueError, match="expected at least three finite positive"):
        rule(np.array(bad))
