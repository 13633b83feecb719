"""Why some of our numbers are not the papers': experiments behind lessons 09 and 11.

    python benchmarks/gaps.py            # what is missing of results/gaps.json
    python benchmarks/gaps.py badnets    # one experiment

badnets (GTSRB): the paper does not describe its patch. Rows: PSNR and SSIM of several patches; the success of our white
box by how much it changes the corner it covers; the cross-example accuracy with the target's own images counted.
collateral (Fashion-MNIST, VGG-9): whom else L-RED's one pixel moves, counting its classes from 1 and from 0.
entropy (GTSRB, MNIST): STRIP's entropy ratio by how an image and another become one; the paper does not say how.
faint (GTSRB): SSIM of patterns as faint as the paper's invisible trigger, by how they lie on the image.
first-epoch (GTSRB): success after one injecting epoch (text on Figure 4) with 10,000 images, as our row, and with all.
input-aware (MNIST): PSNR and SSIM of so many white pixels at random places, about as many as its masks cover.
looks (GTSRB, MNIST): PSNR and SSIM of the networks' triggers by how one takes them, and by which images.
signs (GTSRB): RED-A's verdict with other draws of one picture of each class (L-RED, Table 4), and with four of each.
Networks are trained if need be (ten minutes each).
Hardware: one core.
"""

import argparse
import math
from dataclasses import replace
from functools import partial
from typing import Any

import torch
import zoo
from skimage.metrics import structural_similarity
from torch import Tensor, nn

from btlib import attacks, checkpoints, datasets, detection, metrics, papers, triggers
from btlib.datasets import ImageDataset, sample_per_class, to_float
from btlib.inflight import blend_entropy
from btlib.networks import Network
from btlib.papers import jobs
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
    spec = replace(planned.measurement.spec, trigger_settings={})  # the white box
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


def collateral() -> dict[str, Any]:
    """Share of each class that is called the target, without the pixel and with it, on the networks of `zoo`."""
    rows = {}
    for name, spec in zoo.specs().items():
        if spec.network != "vgg9" or spec.trigger is None:
            continue
        network, data, pixel = checkpoints.load_or_train(spec), datasets.load(spec.data), spec.make_trigger()
        assert pixel is not None
        shares = []
        for images in (to_float(data.x_test), pixel(to_float(data.x_test))):
            said = metrics.predict(network, images).argmax(1) == spec.target
            shares.append([float(said[data.y_test == c].float().mean()) for c in range(data.num_classes)])
        rows[name] = {"target": spec.target, "without": shares[0], "with": shares[1]}
    return rows


def faint() -> dict[str, Any]:
    """SSIM at the PSNR of the paper's invisible trigger: noise everywhere, smooth noise, noise in a square."""
    data = datasets.load("gtsrb")
    x, generator = others(data, 15)[0][:IMAGES], torch.Generator().manual_seed(0)
    channels, side, _ = data.image_shape
    rows = {}
    for name, cells, covered in (
        ("noise on every pixel", 32, 32), ("noise of 8×8 cells", 8, 32), ("noise of 4×4 cells", 4, 32),
        ("noise in a 16×16 square", 32, 16), ("noise in an 8×8 square", 32, 8),
    ):  # fmt: skip
        noise = torch.randn(1, channels, cells, cells, generator=generator)
        noise = nn.functional.interpolate(noise, size=(side, side), mode="bilinear")[0]
        noise[:, covered:] = noise[:, :, covered:] = 0
        noise *= 10 ** (-30.25 / 20) / noise.square().mean().sqrt()
        rows[name] = seen(x, (x + noise).clamp(0, 1))
    return rows


def entropy() -> dict[str, Any]:
    """STRIP's entropy ratio of the networks that are kept: halves, unequal parts, sums, sums cut off at white."""
    rows = {}
    for key in ("badnets-gtsrb", "invisible-gtsrb", "plain-gtsrb", "ours-gtsrb", "plain-mnist"):
        planned = papers.plan(f"stealthy-1/{key}", "full")
        assert isinstance(planned, papers.Plan)
        network, trigger, _ = jobs.attacked(planned.measurement, torch.device("cpu"))
        data = datasets.load(planned.measurement.spec.data)
        x = others(data, planned.measurement.settings["target"])[0][:100]
        over = to_float(data.x_test[sample_per_class(data.y_test, 5, range(data.num_classes), seed=0)])
        over = over[torch.randperm(len(over), generator=torch.Generator().manual_seed(0))[:50]]
        stamped, row = trigger(x), {}
        for weight in (0.5, 0.7, 0.9, None):
            parts = [blend_entropy(network, images, over, weight).mean() for images in (stamped, x)]
            row["sum" if weight is None else f"{weight:g} of the image"] = float(parts[0] / parts[1])
        parts = [cut_off_entropy(network, images, over) for images in (stamped, x)]
        rows[key] = row | {"sum, cut off at white": parts[0] / parts[1]}
    return rows


def cut_off_entropy(network: Network, images: Tensor, over: Tensor) -> float:
    """Mean entropy in bits of sums of images that can't be brighter than white."""
    sums = [metrics.predict(network, (image + over).clamp(max=1)).log_softmax(1) for image in images]
    return float(torch.stack([-(log.exp() * log).sum(1).mean() for log in sums]).mean()) / math.log(2)


def first_epoch() -> dict[str, Any]:
    """Figure 4's ASR after one epoch by how many images the epoch has, on the test images that the attack watches."""
    planned = papers.plan("stealthy-fig4/epsilon-20", "full")
    assert isinstance(planned, papers.Plan)
    attack, rows = jobs.networks(planned.measurement)[1], {}
    assert isinstance(attack, attacks.AttackSpec)
    for images in (10_000, None):
        result = attacks.load_or_run(replace(attack, recipe=replace(attack.recipe, train_images=images)))
        rows["all images" if images is None else f"{images:,} images"] = dict(result.history[0])
    return rows


def input_aware() -> dict[str, Any]:
    """White pixels at random places of MNIST's images: what PSNR and SSIM a mask of that size gives."""
    x, _ = others(datasets.load("mnist"), 8)
    x, generator = x[:IMAGES], torch.Generator().manual_seed(0)
    rows = {}
    for share in (0.01, 0.02, 0.032, 0.05):  # its masks cover about 0.02
        white = torch.rand(x.shape, generator=generator) < share
        rows[f"{share:.1%} of the pixels white"] = seen(x, torch.where(white, torch.ones(()), x))
    return rows


def looks() -> dict[str, Any]:
    """PSNR and SSIM of Table 1's triggers by the forms in use, and how far PSNR moves with the images."""
    rows = {}
    for key in ("badnets-gtsrb", "invisible-gtsrb", "plain-gtsrb", "ours-gtsrb", "plain-mnist", "ours-mnist"):
        planned = papers.plan(f"stealthy-1/{key}", "full")
        assert isinstance(planned, papers.Plan)
        _, trigger, _ = jobs.attacked(planned.measurement, torch.device("cpu"))
        x = others(datasets.load(planned.measurement.spec.data), planned.measurement.settings["target"])[0][:IMAGES]
        stamped = trigger(x)
        moved = (x != stamped).flatten(1).any(1)
        each = torch.tensor([metrics.psnr(a[None], b[None]) for a, b in zip(x[moved], stamped[moved], strict=True)])
        similar = partial(similarity, x[:300], stamped[:300])
        rows[key] = {
            "PSNR, mean of the images": float(each.mean()),
            "PSNR of the mean error": -10 * math.log10(float((x - stamped).square().mean())),
            "sd of the PSNR between draws of 300 images": float(each.std()) / math.sqrt(300),
            "SSIM, 7×7 windows": similar(), "SSIM, Gaussian windows": similar(gaussian_weights=True, sigma=1.5),
            "SSIM, scale taken for 2": similar(data_range=2.0),
        }  # fmt: skip
    return rows


def similarity(x: Tensor, stamped: Tensor, data_range: float = 1.0, **form: Any) -> float:
    """Mean SSIM of image pairs. A scale of 2 is what scikit-image took once for all floats, [0, 1] or not."""
    pairs = zip(x.numpy(), stamped.numpy(), strict=True)
    each = [structural_similarity(a, b, data_range=data_range, channel_axis=0, **form) for a, b in pairs]
    return float(sum(each) / len(each))


def signs(per_class: int = 1, draws: int = 3) -> dict[str, Any]:
    """RED-A with other pictures of each class, on the networks of L-RED's Table 4 whose attack took."""
    rows = {}
    for seed in (0, 2, 3):
        planned = papers.plan("lred-4/gtsrb-attacked", "full", seed)
        assert isinstance(planned, papers.Plan)
        spec = planned.measurement.spec
        network, data = checkpoints.load_or_train(spec), datasets.load(spec.data)
        for draw in range(10, 10 + draws):
            found = detection.red_a(network, data.x_test, data.y_test, per_class=per_class, seed=draw)
            rows[f"network {seed}, draw {draw}"] = {
                "named": found.suspect == spec.target, "p": found.p_value, "calibrated p": found.calibrated_p_value,
            }  # fmt: skip
    return rows


EXPERIMENTS = {
    "badnets": badnets,
    "collateral": collateral,
    "entropy": entropy,
    "faint": faint,
    "first-epoch": first_epoch,
    "input-aware": input_aware,
    "looks": looks,
    "signs": signs,
    "signs, four of each class": partial(signs, 4, 1),
}


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
