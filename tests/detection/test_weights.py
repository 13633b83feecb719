import numpy as np
import pytest
import torch

from btlib.detection.weights import anneal, focus, settle

RATES = torch.tensor([[0.75, 0.25, 0.0, 0.9], [0.0, 0.0, 0.0, 0.0]])
ALLOWED = torch.tensor([[True, True, True, False]] * 2)
UNIFORM = ALLOWED / 3


def test_weights_are_equations_7_and_8():
    q = RATES[0, :3].numpy()
    temperature = -np.log(q.mean())
    expected = np.exp(q / temperature) / np.exp(q / temperature).sum()
    np.testing.assert_allclose(anneal(RATES, UNIFORM, ALLOWED)[0, :3], expected, rtol=1e-5)


def test_the_target_has_no_weight_and_rows_sum_to_one():
    weights = anneal(RATES, UNIFORM, ALLOWED)
    assert weights[:, 3].tolist() == [0, 0]
    torch.testing.assert_close(weights.sum(1), torch.ones(2))


def test_weights_are_uniform_while_nothing_is_misclassified():
    assert anneal(RATES, torch.tensor([[1.0, 0, 0, 0]] * 2), ALLOWED)[1].tolist() == UNIFORM[1].tolist()


def test_at_full_success_the_largest_rates_share_the_weight():
    rates = torch.tensor([[1.0, 1.0, 0.5, 0.0]])
    weights = anneal(rates, torch.tensor([[0.5, 0.5, 0.0, 0.0]]), ALLOWED[:1])
    assert weights[0].tolist() == pytest.approx([0.5, 0.5, 0, 0], abs=1e-6)


def test_settled_weights_are_a_fixed_point_or_have_reached_pi():
    rates = torch.rand(50, 4, generator=torch.Generator().manual_seed(0))
    allowed = ALLOWED[:1].expand(50, 4)
    weights = settle(rates, allowed / 3, allowed, pi=0.9)
    done = (weights * rates).sum(1) > 0.9
    torch.testing.assert_close(anneal(rates, weights, allowed)[~done], weights[~done], atol=1e-4, rtol=0)
    assert 0 < done.sum() < 50


def test_settling_stops_at_pi_and_goes_no_further():
    rates = torch.tensor([[0.95, 0.2, 0.1, 0.0]])
    weights = UNIFORM[:1]
    for _ in range(300):  # line by line, as Algorithm 1 does at a fixed v
        if (weights * rates).sum() > 0.9:
            break
        weights = anneal(rates, weights, ALLOWED[:1])
    torch.testing.assert_close(settle(rates, UNIFORM[:1], ALLOWED[:1]), weights)


def test_focused_weights_count_classes_by_their_squared_rates():
    q = RATES[0, :3].numpy()
    temperature = -np.log((q**3).sum() / (q**2).sum())  # the target's own rate, .9, has no part in it
    expected = np.exp(q / temperature) / np.exp(q / temperature).sum()
    weights = focus(RATES, UNIFORM, ALLOWED)
    np.testing.assert_allclose(weights[0, :3], expected, rtol=1e-5)
    assert weights[1].tolist() == UNIFORM[1].tolist()  # nothing is misclassified


@pytest.mark.parametrize(("fooled", "published"), [(1, 0.184), (2, 1.0), (3, 1.0)])
def test_one_fooled_class_of_nine_holds_published_weights_and_not_focused_ones(fooled, published):
    # Eq. 7 and 8 with q = 1 for m of nine classes stand still where w = 1 / (m + (9 - m) exp(1 / log(m w))).
    rates, allowed = torch.zeros(1, 10), torch.ones(1, 10, dtype=torch.bool)
    rates[0, :fooled], allowed[0, 9] = 1.0, False
    share = settle(rates, allowed / 9, allowed, pi=0.999)[0, :fooled].sum()
    assert float(share) == pytest.approx(published, abs=1e-3)
    assert float(settle(rates, allowed / 9, allowed, update=focus)[0, :fooled].sum()) == pytest.approx(1, abs=1e-3)


def test_scattered_errors_do_not_hold_focused_weights():
    rates, allowed = torch.full((1, 10), 1 / 8), torch.ones(1, 10, dtype=torch.bool)
    rates[0, 0], allowed[0, 9] = 1.0, False  # one image in eight of every other class
    assert float(settle(rates, allowed / 9, allowed)[0, 0]) < 0.3
    assert float(settle(rates, allowed / 9, allowed, update=focus)[0, 0]) > 0.99


def test_weights_that_stand_still_are_looked_at_no_further():
    rates, allowed = torch.tensor([[0.8, 0.5, 0.0, 0.0]]), ALLOWED[:1]
    updates = []

    def counted(*given):
        updates.append(anneal(*given))
        return updates[-1]

    settle(rates, UNIFORM[:1], allowed, pi=0.99, update=counted)
    assert len(updates) < 300
    assert float((updates[-1] - updates[-2]).abs().max()) < 1e-5 <= float((updates[-2] - updates[-3]).abs().max())
