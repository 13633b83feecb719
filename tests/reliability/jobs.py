"""The jobs that are killed: tiny versions of everything that writes files, each in the current folder.

A job that is new: write a function that leaves its result in ``out/``, add a line to `JOBS`.
"""

import importlib
import os
import shutil
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nbformat
import torch
import torchvision
from PIL import Image
from toys import TARGET, toy_data

from btlib import attacks, checkpoints, datasets, inflight, papers, paths
from btlib.checkpoints import Spec
from btlib.cli import main
from btlib.cli.site_build import build
from btlib.datasets import DataSource
from btlib.papers import Measurement, Task
from btlib.papers.measurements import with_network
from btlib.training import Recipe

# What commands import when they are called is imported now, once for all copies of this process.
for _name in (
    "btlib.cli.app", "btlib.papers.jobs", "btlib.cli.scanning", "btlib.cli.scan_report", "btlib.cli.scan_text",
    "btlib.plots", "btlib.cli.repair_outcome", "btlib.cli.export", "btlib.cli.copies", "btlib.cli.report",
    "btlib.repair", "btlib.cli.estimates", "papermill", "nbconvert", "myst_nb", "sphinx.cmd.build", "furo",
    "sklearn.mixture", "matplotlib.pyplot",
):  # fmt: skip
    importlib.import_module(_name)

OUT = Path("out")
PICTURES = DataSource.of("folder:pictures", size=16, channels=1, test_fraction=0.5)
BRIEF = Recipe(epochs=5, batch_size=8, lr=3e-3)  # enough for images that tell their class at a glance
POISONED = Spec(data=PICTURES, recipe=BRIEF, trigger="box", target=TARGET, per_class=5)
NETWORK = "net.safetensors"
FASHION = Path(paths.root(), "data", "FashionMNIST", "raw")
MIRROR = "BTLIB_MIRROR"  # address of a folder of packed files, served on loopback


@dataclass(frozen=True)
class Job:
    """Something that can be killed.

    Attributes:
        run: does it, in the current folder, with its result in ``out/``.
        prepare: what lies there before it begins; it is done once.
        share: how many of the kills it gets, beside the others.
        apart: whether every run is a Python of its own, because the job starts processes that want a fresh one.
        waits: whether it mostly waits for others, so that its own seconds of a processor tell little.
    """

    run: Callable[[], object]
    prepare: Callable[[], object] = lambda: None
    share: float = 1.0
    apart: bool = False
    waits: bool = False


def pictures(per_class: int = 30) -> None:
    """A folder of grey pictures for each of three classes."""
    data = toy_data(train=3 * per_class, test=3)
    for number, (image, label) in enumerate(zip(data.x_train, data.y_train.tolist(), strict=True)):
        path = Path("pictures", f"bar {label}", f"{number:03}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0].numpy()).save(path)


def network() -> None:
    """A backdoored network and the pictures that it knows."""
    pictures()
    checkpoints.load_or_train(POISONED, folder="trained")
    shutil.move(Path("trained", POISONED.file_name), NETWORK)
    shutil.rmtree("trained")


def scanned() -> None:
    """A network, and what a scan left of it."""
    network()
    scan()
    shutil.move(OUT / "scan.json", "scan.json")
    shutil.move(OUT / "scan.estimates.safetensors", "scan.estimates.safetensors")
    shutil.rmtree(OUT)


def command(*arguments: str) -> None:
    """A command of btlib, as a shell would run it; all statuses but that of bad input will do."""
    try:
        main(arguments)
    except Exception:  # what a shell would show
        traceback.print_exc()
        raise SystemExit(1) from None
    except SystemExit as ended:
        if ended.code not in (0, 3, 4):
            raise


# ------------------------------------------------------------------------------------------------------------- jobs


def train_clean() -> None:
    """A clean network through its checkpoint."""
    recipe = Recipe(epochs=8, batch_size=16, schedule="one_cycle")
    checkpoints.load_or_train(Spec(data=toy_data(), recipe=recipe), folder=OUT)


def train_poisoned() -> None:
    """A poisoned network with augmentation and SGD, whose momentum must come back too."""
    recipe = Recipe(epochs=8, batch_size=16, optimizer="sgd", lr=0.01, augment="crop")
    checkpoints.load_or_train(
        Spec(data=toy_data(), recipe=recipe, trigger="box", target=TARGET, per_class=20), folder=OUT
    )


def train_several() -> None:
    """What `btlib checkpoints` does: file after file."""
    specs = [Spec(data=toy_data(), recipe=Recipe(epochs=2, batch_size=16), seed=seed) for seed in range(3)]
    checkpoints.make_files(specs, OUT, lambda spec, path: checkpoints.load_or_train(spec, folder=OUT),
                           lambda path, spec: checkpoints.load_or_train(spec, folder=OUT),
                           title="", progress=False, force=False)  # fmt: skip


def attack(recipe: attacks.AttackRecipe) -> Callable[[], object]:
    """An attack on a network that is trained first."""
    start = Spec(data=PICTURES, recipe=BRIEF)
    return lambda: attacks.load_or_run(attacks.AttackSpec(recipe, start), folder=OUT)


def sweep(workers: int) -> Callable[[], object]:
    """Detection and in-flight rows, each of which trains its network."""

    def run() -> None:
        rows = [Task("toy/found", Measurement("detection", with_network(POISONED, detectors=["red-u"]), seed))
                for seed in range(3)]  # fmt: skip
        for outcome in papers.run(rows, OUT, workers=workers):
            if outcome.error:
                raise RuntimeError(outcome.error)

    return run


def guard_writing() -> None:
    """Guards fitted, written and exported, one after the other."""
    net, data = checkpoints.load_or_train(POISONED, folder="."), PICTURES.load()
    for seed in range(3):
        detector = inflight.LikelihoodDetector(seed=seed)
        detector.fit(net, data.x_test, data.y_test, target=TARGET, trigger=POISONED.make_trigger())
        inflight.Guard(net, detector).save(OUT / f"guard-{seed}.safetensors")


def guard_ready() -> None:
    """The network under its own name."""
    network()
    shutil.move(NETWORK, POISONED.file_name)


def packed() -> None:
    """Fashion-MNIST as the repository has it: packed."""
    folder = Path("root", "FashionMNIST", "raw")
    folder.mkdir(parents=True)
    for path in FASHION.glob("*.gz"):
        shutil.copy(path, folder)


def _keep(data: datasets.ImageDataset) -> None:
    """What was read, in a word."""
    OUT.mkdir(exist_ok=True)
    (OUT / "fingerprint.txt").write_text(data.fingerprint)


def unpack() -> None:
    """The files are unpacked and checked."""
    _keep(datasets.load("fashion-mnist", root="root"))


def download() -> None:
    """From a mirror on this machine."""
    source = torchvision.datasets.FashionMNIST  # the sums are of its own packing; what is unpacked, btlib checks
    source.mirrors, source.resources = [os.environ[MIRROR]], [(name, None) for name, _ in source.resources]
    _keep(datasets.load("fashion-mnist", root="root"))


def picture_folder() -> None:
    """A folder of pictures, read and divided."""
    for seed in range(4):
        _keep(datasets.load("folder:pictures", size=16 + seed, channels=3))


def scan() -> None:
    """Estimates of all classes, JSON and page."""
    command("scan", NETWORK, "--images", "pictures", "--methods", "red-u", "--json", "out/scan.json",
            "--out", "out/scan.html", "--save-estimates")  # fmt: skip


def guard() -> None:
    """From a scan's estimate to a guard's file."""
    command("guard", "scan.json", NETWORK, "--images", "pictures", "--target", str(TARGET), "--method", "red-u",
            "--out", "out/guard.safetensors")  # fmt: skip


def repair_network() -> None:
    """A network repaired, and scanned before and after."""
    command("repair", NETWORK, "--images", "pictures", "--target", str(TARGET), "--method", "fine-tuning",
            "--methods", "red-u", "--out", "out/repaired.safetensors", "--json", "out/repair.json")  # fmt: skip


def tiny_lesson() -> None:
    """One tiny lesson to run."""
    v4 = nbformat.v4
    cells = [v4.new_markdown_cell("# Lesson 00 — Tiny"),
             v4.new_code_cell('PROFILE = "fast"\nSEED = 0', metadata={"tags": ["parameters"]}),
             v4.new_code_cell("import time\ntime.sleep(1)\nprint(6 * 7)")]  # fmt: skip
    for number, cell in enumerate(cells):
        cell.id = f"cell-{number}"
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    Path("lessons").mkdir()
    nbformat.write(v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), "lessons/00_tiny.ipynb")


def course() -> None:
    """The lesson, its page and the report."""
    command("course", "--notebooks", "lessons", "--out", "out")


def site_sources() -> None:
    """A tiny lesson that has run, one that has not, and what a repository has for its site."""
    tiny_lesson()
    shutil.copy("lessons/00_tiny.ipynb", "lessons/01_tiny.ipynb")
    Path("executed").mkdir()
    shutil.copy("lessons/00_tiny.ipynb", "executed")
    shutil.copytree(paths.root() / "docs" / "site", "docs/site")
    for name in ("docs/backdoor.png", "docs/glossary.md", "README.md"):
        shutil.copy(paths.root() / name, name)


def site() -> None:
    """The site of these lessons."""
    build(Path(), Path("lessons"), Path("executed"), OUT)


def lessons() -> None:
    """Three of the course's lessons."""
    Path("lessons").mkdir()
    for path in sorted(paths.notebooks().glob("*.ipynb"))[:3]:
        shutil.copy(path, "lessons")


def handed_in() -> None:
    """Two students' notebooks, one answer right, one wrong."""
    v4 = nbformat.v4
    for student, body in (("ada", "(p[y != t] == t).float().mean()"), ("ben", "(p == t).float().mean()")):
        cells = [v4.new_code_cell(text) for text in (
            "from btlib.exercises import exercise",
            f'@exercise("asr")\ndef asr(p, y, t):\n    return {body}',
        )]  # fmt: skip
        path = Path("class", student, "00_start_here.ipynb")
        path.parent.mkdir(parents=True)
        nbformat.write(v4.new_notebook(cells=cells), path)


def answers() -> None:
    """A class, marked."""
    command("answers", "class", "--out", "out", "--lesson", "00")


def handout() -> None:
    """Lessons as students get them."""
    command("handout", "out", "--notebooks", "lessons")


STEALTHY = attacks.stealthy.StealthyRecipe(target=TARGET, epochs=3, watch=30, batch_size=16)
INPUT_AWARE = attacks.input_aware.InputAwareRecipe(target=TARGET, mask_epochs=2, epochs=2, batch_size=16, watch=30)
INVISIBLE = attacks.invisible.InvisibleRecipe(
    target=TARGET, steps=20, per_class=10, training=Recipe(epochs=3, batch_size=32), watch=30
)
JOBS = {
    "train, clean": Job(train_clean),
    "train, poisoned": Job(train_poisoned),
    "train, one file after the other": Job(train_several),
    "attack, stealthy": Job(attack(STEALTHY), pictures),
    "attack, input-aware": Job(attack(INPUT_AWARE), pictures),
    "attack, invisible": Job(attack(INVISIBLE), pictures),
    "sweep, one process": Job(sweep(1), pictures),
    "sweep, two workers": Job(sweep(2), pictures, 0.4, apart=True, waits=True),
    "data, unpacked": Job(unpack, packed),
    "data, downloaded": Job(download),
    "data, pictures": Job(picture_folder, pictures, 0.5),
    "guards written": Job(guard_writing, guard_ready),
    "scan": Job(scan, network, 0.7),
    "guard": Job(guard, scanned),
    "repair": Job(repair_network, network, 0.7),
    "answers": Job(answers, handed_in, 0.4, apart=True, waits=True),
    "handout": Job(handout, lessons, 0.5),
    "course": Job(course, tiny_lesson, 0.4, waits=True),
    "site": Job(site, site_sources, 0.4),
}


if __name__ == "__main__":  # a job in a Python of its own
    torch.set_num_threads(1)
    JOBS[sys.argv[1]].run()
