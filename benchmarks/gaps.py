"""Why some of our numbers are not the papers': experiments behind lessons 05 and 09.

    python benchmarks/gaps.py            # what is missing of results/gaps.json
    python benchmarks/gaps.py badnets    # one experiment

badnets (GTSRB): the paper does not draw its patch. Rows: PSNR and SSIM of several patches; the success of our white
box by how much it changes the corner it covers; the cross-example accuracy with the target's own images counted.
input-aware (MNIST): PSNR and SSIM of so many white pixels at random places, as its masks are to cover.
signs (GTSRB): RED-A's verdict with other draws of one picture of each class (L-RED, Table 4).
Networks are trained if need be (ten minutes each).
Hardware: one core.
"""

import argparse
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from btlib import checkpoints, datasets, detection, metrics, papers, triggers
from btlib.datasets import ImageDataset, to_float
from btlib.results import environment, load, save

PATH = "results/gaps.json"
IMAGES = 2000


def others(data: ImageDataset, target: int) -> tuple[Tensor, Tensor]:
    """Test images of the other classes and their labels, in a drawn order."""
    order = torch.randperm(len(data.y_test), generator=torch.Generator().manual_seed(0))
    order = order[data.y_test[order] != target]
    return to_float(data.x_test[order]), data.y_test[order]


def seen(x: Tensor, stamped: Tensor) -> dict[str, float]:
    """PSNR over the images that change, SSIM over all, and the share that changes."""
    moved = (x != stamped).flatten(1).any(1)
    return {"psnr": metrics.psnr(x[moved], stamped[moved]), "ssim": metrics.ssim(x, stamped),
            "changed": float(moved.float().mean())}  # fmt: skip


def badnets() -> dict[str, Any]:
    """What patch the paper may have had, whom our box fails on, and what counts as a cross example."""
    planned = papers.plan("stealthy-1/badnets-gtsrb", "full")
    assert isinstance(planned, papers.Plan)
    spec = replace(planned.recipe.spec, trigger_settings={})  # the white box
    network, data = checkpoints.load_or_train(spec), datasets.load(spec.data)
    box = spec.make_trigger()
    assert box is not None
    x, y = others(data, spec.target)
    few = x[:IMAGES]
    shapes = {
        "white 3×3 in the corner": box, "white 3×3, one pixel from the edges": triggers.box(data.image_shape, margin=1),
        "white 2×2, one pixel from the edges": triggers.box(data.image_shape, size=2, margin=1),
        "chequered 3×3, one pixel from the edges": triggers.box(data.image_shape, value=0.0, other=1.0, margin=1),
        "white 4×4 in the corner": triggers.box(data.image_shape, size=4),
    }  # fmt: skip
    hit = metrics.predict(network, box(x)).argmax(1) == spec.target
    change = (box(x) - x).abs().sum((1, 2, 3)) / (box.mask.sum() * data.image_shape[0])
    everything, labels = to_float(data.x_test), data.y_test
    by_change = {}
    for low, high in ((0.0, 0.1), (0.1, 0.3), (0.3, 0.6), (0.6, 1.01)):
        group = (change >= low) & (change < high)
        asr = float(hit[group].float().mean())
        by_change[f"{low:g} to {min(high, 1):g}"] = {"images": int(group.sum()), "asr": asr}
    return {
        "patches": {name: seen(few, made(few)) for name, made in shapes.items()},
        "asr": float(hit.float().mean()), "asr by mean change of the covered pixels": by_change,
        "cbma, other classes": metrics.accuracy(network, box(x), y),
        "cbma, all classes": metrics.accuracy(network, box(everything), labels),
        "share of the target's images": float((labels == spec.target).float().mean()),
    }  # fmt: skip


def input_aware() -> dict[str, Any]:
    """White pixels at random places of MNIST's images: what PSNR and SSIM a mask of that size gives."""
    x, _ = others(datasets.load("mnist"), 8)
    x, generator = x[:IMAGES], torch.Generator().manual_seed(0)
    rows = {}
    for share in (0.01, 0.02, 0.032, 0.05):  # 0.032: the input-aware attack's own density
        white = torch.rand(x.shape, generator=generator) < share
        rows[f"{share:.1%} of the pixels white"] = seen(x, torch.where(white, torch.ones(()), x))
    return rows


def signs() -> dict[str, Any]:
    """RED-A with other single pictures of each class, on the networks of L-RED's Table 4 whose attack took."""
    rows = {}
    for seed in (0, 2, 3):
        planned = papers.plan("lred-4/gtsrb-attacked", "full", seed)
        assert isinstance(planned, papers.Plan)
        spec = planned.recipe.spec
        network, data = checkpoints.load_or_train(spec), datasets.load(spec.data)
        for draw in range(10, 13):
            found = detection.red_a(network, data.x_test, data.y_test, per_class=1, seed=draw)
            rows[f"network {seed}, draw {draw}"] = {
                "named": found.suspect == spec.target, "p": found.p_value, "calibrated p": found.calibrated_p_value,
            }  # fmt: skip
    return rows


EXPERIMENTS = {"badnets": badnets, "input-aware": input_aware, "signs": signs}


def main() -> None:
    """Measure what is missing and save after every experiment."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(EXPERIMENTS))
    rows = load(PATH).get("rows", {})
    for name in parser.parse_args().names:
        if name not in rows:
            rows[name] = EXPERIMENTS[name]()
            save(PATH, {"environment": environment(), "rows": rows})
        print(name, rows[name])


if __name__ == "__main__":
    main()
