"""What an attack gives back, by hand."""

import pytest
import torch
from torch import Tensor
from toys import TARGET, hand_set, lit_pixels

from btlib.attacks import AttackResult
from btlib.attacks.outcome import cross, watched


class Lamp:
    """Lights the backdoor's pixel with its own trigger, and nothing with another image's."""

    def __call__(self, images: Tensor) -> Tensor:
        lit = images.clone()
        lit[..., -1, -1] = 1
        return lit

    def crossed(self, images: Tensor, others: Tensor) -> Tensor:
        assert images.shape == others.shape
        assert not torch.equal(images, others)
        return images


def test_what_a_history_watches() -> None:
    network, (x, y) = hand_set(10), lit_pixels(4)
    lamp = Lamp()
    assert watched(network, lamp, x, y, TARGET) == {"bma": 1, "asr": 1, "cbma": 1}
    fixed = watched(network, lamp.__call__, x, y, TARGET)
    assert (fixed["bma"], fixed["asr"]) == (1, 1)
    assert fixed["cbma"] == pytest.approx(1 / 3)  # of triggered images only the target's own are right
    assert watched(hand_set(0), lamp, x, y, TARGET)["asr"] == 0


def test_a_crossed_trigger_is_another_images_and_a_fixed_one_its_own() -> None:
    x = torch.rand(3, 1, 8, 8)
    lamp = Lamp()
    lamp.crossed = lambda images, others: others  # type: ignore[method-assign]
    assert torch.equal(cross(lamp, x), x[[2, 0, 1]])
    assert torch.equal(cross(lamp.__call__, x), lamp(x))


def test_curves_are_read_by_name() -> None:
    history = ({"mask_loss": 3.0}, {"asr": 0.2}, {"asr": 0.9})  # what comes before the attack has no such number
    result = AttackResult(hand_set(10), Lamp(), TARGET, 1.0, history, None, 0)
    assert result.curve("asr") == [0.2, 0.9]
    assert result.generator is None
    with pytest.raises(KeyError, match="'arr' is not in the history, which has mask_loss, asr"):
        result.curve("arr")
