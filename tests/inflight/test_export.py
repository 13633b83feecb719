"""An exported guard says what the guard says, for batches of any size, or there is no file."""

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from toys import TARGET, hand_set, lit_pixels

from btlib import triggers
from btlib.inflight import Guard, LikelihoodDetector, export_guard
from btlib.inflight.export import ANSWERS

PIXEL = triggers.single_pixel((1, 8, 8))
X, Y = lit_pixels(12, noise=3)


class Viewed(nn.Module):
    """Someone else's network: a convolution that passes its input on, flattened by `view`; the last pixel rules."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.mix, self.out = nn.Conv2d(1, 1, 1), nn.Linear(64, 64), nn.Linear(64, 3)
        for module, weight in [(self.conv, torch.ones(1, 1, 1, 1)), (self.mix, torch.eye(64)),
                               (self.out, hand_set(10).head.weight.detach())]:  # fmt: skip
            module.load_state_dict({"weight": weight, "bias": torch.zeros(len(weight))})
        self.choosy = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        if self.choosy and x.sum() > 0:  # a choice by value, which no exporter can follow
            x = x * 1.0
        return self.out(self.mix(x.view(x.size(0), -1)).relu_())


def guarded(network: nn.Module, **settings: Any) -> Guard:
    return Guard(network, LikelihoodDetector(**settings).fit(network, X, Y, target=TARGET, trigger=PIXEL))


def mixed() -> torch.Tensor:
    return torch.cat([X[:9], PIXEL(X[:9])])


@pytest.mark.parametrize(
    ("network", "settings"),
    [(hand_set(10), {}), (Viewed(), {}), (Viewed(), {"layer": "conv", "covariance": "full"})],
    ids=["ours", "theirs", "map"],
)
def test_a_torch_export_says_what_the_guard_says(network: nn.Module, settings: Any, tmp_path: Path) -> None:
    guard = guarded(network, **settings)
    path = export_guard(guard, tmp_path / "guard.pt2", mixed())
    loaded = torch.export.load(path).module()
    for images in (mixed(), mixed()[:1], torch.cat([mixed()] * 3)):
        ours, theirs = guard(images), dict(zip(ANSWERS, loaded(images), strict=True))
        assert len(images) == 1 or 0 < ours.is_trigger.sum() < len(images)
        for name in ("label", "is_trigger", "predicted"):
            assert torch.equal(theirs[name], getattr(ours, name)), name
        torch.testing.assert_close(theirs["scores"], ours.scores, rtol=1e-4, atol=1e-3)
    with zipfile.ZipFile(path) as archive:
        kept = [archive.read(name) for name in archive.namelist() if name.endswith("guard.json")]
    assert json.loads(kept[0])["target"] == TARGET


def test_an_onnx_file_says_what_the_guard_says(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs the onnx extra")
    guard = guarded(Viewed())
    path = export_guard(guard, tmp_path / "guard.onnx", mixed())
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    assert json.loads(session.get_modelmeta().custom_metadata_map["guard"])["threshold"] == guard.settings.threshold
    for images in (mixed(), mixed()[:1]):
        ours = guard(images)
        theirs = dict(zip(ANSWERS, session.run(None, {"images": images.numpy()}), strict=True))
        for name in ("label", "is_trigger", "predicted"):
            assert theirs[name].tolist() == getattr(ours, name).tolist(), name
    assert [each.name for each in tmp_path.iterdir()] == ["guard.onnx"], "all in one file"


def test_what_cannot_be_exported_leaves_no_file(tmp_path: Path) -> None:
    choosy = Viewed()
    choosy.choosy = True
    guard = guarded(choosy)
    with pytest.raises(ValueError, match=r"guard: expected a network that torch\.export can follow"):
        export_guard(guard, tmp_path / "guard.pt2", mixed()[8:10])  # two images are enough to try it
    plain = guarded(Viewed())
    with pytest.raises(ValueError, match=r"ends in \.onnx or \.pt2, got guard\.pth"):
        export_guard(plain, tmp_path / "guard.pth", mixed())
    with pytest.raises(ValueError, match="at least two to try the export on, got 1"):
        export_guard(plain, tmp_path / "guard.pt2", mixed()[:1])
    assert list(tmp_path.iterdir()) == []


class Later(Viewed):
    """A network that is another one from the second call on."""

    calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if torch.compiler.is_compiling():
            return super().forward(1 - x)
        return super().forward(x)


def test_an_export_that_says_otherwise_is_not_kept(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="guard: expected guard.pt2 to score images as the guard does"):
        export_guard(guarded(Later()), tmp_path / "guard.pt2", mixed())
    assert list(tmp_path.iterdir()) == []
