"""What repairs do to a backdoor, to accuracy and to the clock: our networks, and five that other people backdoored.

    python benchmarks/repair.py                     # Fashion-MNIST, LeNet-5, box, three seeds
    python benchmarks/repair.py --others --methods fine-tuning fine-pruning "implicit unlearning" "activation caps" \\
        "unlearning, Neural Cleanse"                # and networks with other triggers, with one source, stealthy ones
    python benchmarks/repair.py --signs --methods ...   # and three of traffic signs
    python benchmarks/repair.py --external          # I-BAU's CIFAR-10 networks below $BTLIB_EXTERNAL as well
    python benchmarks/repair.py --guards            # what the guard sees before and after a repair, on three networks
    python benchmarks/repair.py --summary           # the tables of what has been measured

The defender has clean images, drawn by the network's seed: of Fashion-MNIST 100 test images of each class, of traffic
signs 20, of CIFAR-10 500 training images, as published. Accuracy and success are of test images that no repair saw
(CIFAR-10: 200 of each class of the JPEG copy). The target is taken as named by a detector; the estimated trigger is
Neural Cleanse's or mask RED-A's of the defender's images (`QUICK`), never the attacker's. Success leaves images of the
target out. Rows in results/repair.json (what comes out) and results/benchmark-repair.json (what it costs: CPU seconds
of one thread, and passes, those of one forward pass over the defender's images in the same process) are not measured
again.
Hardware: one core; five minutes, with --external an hour more.
"""

import argparse
import os
import time
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from external import true_trigger
from external_networks import EluVgg
from torch import Tensor, nn
from tqdm import tqdm
from zoo import of_table_4

from btlib import attacks, checkpoints, datasets, detection, inflight, metrics, repair
from btlib.cli import foreign
from btlib.cli.file_kinds import file_kind
from btlib.repair.implicit import AS_PUBLISHED
from btlib.results import environment, load, save

PATH, COSTS = "results/repair.json", "results/benchmark-repair.json"
LENETS = ("box", "box-1", "box-2")
OTHERS = ("chessboard", "one-source", "box-one-source", "three-sources", "stealthy-plain", "stealthy",
          "invisible", "input-aware")  # fmt: skip
#: Of networks of traffic signs; that of seed 1 does not obey (success .10 on its source classes).
SIGN_SEEDS = (0, 2, 3)
SIGNS = 20  # clean images of each of 43 classes: about as many in all as of ten
GUARDED = ("fashion-mnist lenet5 box", "another attack, one-source", "another attack, stealthy")
ESTIMATES: dict[str, type[detection.Detector]] = {
    "Neural Cleanse": detection.NeuralCleanse, "mask RED-A": detection.MaskRedA
}  # fmt: skip
METHODS: dict[str, tuple[repair.Repair, type[detection.Detector] | None]] = {
    **{name: (kind(), None) for name, kind in repair.REPAIRS.items() if name != "unlearning"},
    "implicit unlearning, as published": (AS_PUBLISHED, None),
    **{f"unlearning, {name}": (repair.Unlearning(), detector) for name, detector in ESTIMATES.items()},
    "unlearning, mask RED-A on a fifth": (repair.Unlearning(share=0.2), detection.MaskRedA),  # the paper's share
}  # fmt: skip
SHORT = replace(repair.FineTuning().recipe, epochs=4)
#: Five times the images and a hundred times the work for each: as many steps as with a LeNet-5, or fewer.
SHORTER: dict[str, repair.Repair] = {
    "fine-tuning": repair.FineTuning(SHORT), "fine-pruning": repair.FinePruning(recipe=SHORT),
    "unlearning": repair.Unlearning(recipe=SHORT),
    "adversarial neuron pruning": repair.AdversarialNeuronPruning(steps=100),
    "activation caps": repair.ActivationCaps(epochs=6),
    "implicit unlearning": repair.ImplicitUnlearning(recipe=replace(repair.ImplicitUnlearning().recipe, epochs=2)),
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Case:
    """One network, what the defender has, and what only we know."""

    name: str
    network: nn.Module
    trigger: Callable[[Tensor], Tensor]
    target: int
    seed: int
    images: Tensor
    labels: Tensor
    judged: tuple[Tensor, Tensor]
    sources: str | tuple[int, ...] = "all"

    def rates(self, network: nn.Module) -> dict[str, float]:
        """Accuracy and success on images that no repair sees."""
        success = metrics.attack_success_rate(network, self.trigger, *self.judged, self.target, self.sources)
        return {"accuracy": metrics.accuracy(network, *self.judged), "success": success}


def lenet5(name: str) -> Case:
    """A shipped network; the rest of the test set judges."""
    spec = checkpoints.shipped()[name]
    trigger, split = spec.make_trigger(), datasets.load(spec.data).defender_split(100, seed=spec.seed)
    assert trigger is not None
    return Case(f"fashion-mnist lenet5 {name}", checkpoints.load_or_train(spec), trigger, spec.target, spec.seed,
                split.images, split.labels, (split.other_images, split.other_labels))  # fmt: skip


def another(name: str) -> Case:
    """A shipped network with another attack; its success is that on its source classes."""
    split = datasets.load("fashion-mnist").defender_split(100, seed=0)
    parts = (split.images, split.labels, (split.other_images, split.other_labels))
    if name in attacks.shipped():
        made = attacks.load_or_run(attacks.shipped()[name])
        return Case(f"another attack, {name}", made.network, made.trigger, made.target, 0, *parts)
    spec = checkpoints.shipped()[name]
    trigger, sources = spec.make_trigger(), spec.sources if isinstance(spec.sources, str) else tuple(spec.sources)
    assert trigger is not None
    return Case(f"another attack, {name}", checkpoints.load_or_train(spec), trigger, spec.target, 0, *parts, sources)


def signs(seed: int) -> Case:
    """L-RED's attacked traffic signs (Table 4); its success is that on its twelve source classes."""
    spec = of_table_4("gtsrb-attacked", seed)
    data, trigger = datasets.load(spec.data), spec.make_trigger()
    split = data.defender_split(SIGNS, seed=spec.seed)
    assert trigger is not None
    assert not isinstance(spec.sources, str)
    return Case(sign_name(seed), checkpoints.load_or_train(spec), trigger, spec.target, spec.seed,
                split.images, split.labels, (split.other_images, split.other_labels), tuple(spec.sources))  # fmt: skip


def sign_name(seed: int) -> str:
    """Of its rows."""
    return "gtsrb gtsrb_cnn local_square" + (f"-{seed}" if seed else "")


def external(name: str) -> Case:
    """One of I-BAU's networks."""
    told, root = strangers()[name], Path(os.environ["BTLIB_EXTERNAL"])
    network, path = EluVgg(), root / told["file"]
    network.load_state_dict(foreign.read_weights(path, file_kind(path)))
    data = datasets.load("folder:cifar10-jpg")
    x, y = data.clean_images(500, seed=0, split="train")
    judged, trigger = data.clean_images(200, seed=0, split="test"), true_trigger(root, told["trigger"])
    return Case(f"external {name}", network.eval(), trigger, told["target"], 0, x, y, judged)


def strangers() -> dict[str, dict[str, Any]]:
    """What is told of I-BAU's networks."""
    return tomllib.loads((Path(__file__).parent / "external.toml").read_text(encoding="utf-8"))["i-bau"]["networks"]


def seconds(run: Callable[[], Any]) -> tuple[Any, float]:
    """What it returns, and its CPU seconds."""
    began = time.process_time()
    returned = run()
    return returned, time.process_time() - began


def measured(case: Case, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """One repair of one network: what comes out, and what it costs."""
    method, detector = METHODS[name]
    if case.name.startswith("external"):
        method = SHORTER.get(method.name, method)
    one_pass = min(seconds(lambda: metrics.predict(case.network, case.images))[1] for _ in range(3))
    trigger, estimation = None, 0.0
    if detector is not None:
        fewest = int(case.labels.bincount().min())
        look = detector(seed=case.seed, per_class=min(detector().per_class or fewest, fewest))
        find = partial(look, case.network, case.images, case.labels, targets=[case.target])
        found, estimation = seconds(find)
        trigger = found.estimates[case.target].trigger
    cost: dict[str, Any] = {"one pass": one_pass, "estimation": estimation}
    try:
        done, cost["CPU seconds"] = seconds(
            lambda: method(case.network, case.images, case.labels, trigger=trigger, seed=case.seed)
        )
    except ValueError as error:
        return {"refused": str(error)}, cost | {"refused": True}
    cost |= {"seconds": done.seconds, "passes": cost["CPU seconds"] / one_pass}
    row = {"before": case.rates(case.network), "after": case.rates(done.network), "summary": done.summary,
           "changed": dict(done.changed), "method": repr(method)}  # fmt: skip
    return row, cost


def guard(case: Case) -> dict[str, Any]:
    """What the likelihood guard sees before and after repairs, fitted with the estimate that was made before."""
    found = detection.NeuralCleanse(seed=case.seed)(case.network, case.images, case.labels, targets=[case.target])
    trigger, own = found.estimates[case.target].trigger, {"target": case.target}
    networks = {"before": case.network}
    for name in ("fine-tuning", "unlearning", "implicit unlearning", "activation caps"):
        networks[name] = repair.REPAIRS[name]()(
            case.network, case.images, case.labels, trigger=trigger, seed=case.seed
        ).network
    row = {}
    for name, network in networks.items():
        fitted = inflight.LikelihoodDetector().fit(network, case.images, case.labels, **own, trigger=trigger)
        row[name] = case.rates(network) | {"triggers judged": 0, "warnings": list(fitted.warnings_)}
        if row[name]["success"] > 0:
            rates = inflight.measure_rates(fitted, *case.judged, trigger=case.trigger, sources=case.sources)
            seen = {"triggers judged": rates.triggers, "tpr": rates.tpr, "fpr": rates.fpr, "sia": rates.sia}
            row[name] |= seen
    return row


def cases(with_others: bool, with_external: bool, with_signs: bool = False) -> Iterator[tuple[Callable[[], Case], str]]:
    """How to make each case, and its name."""
    for name in LENETS:
        yield lambda name=name: lenet5(name), f"fashion-mnist lenet5 {name}"  # type: ignore[misc]
    for name in OTHERS if with_others else ():
        yield lambda name=name: another(name), f"another attack, {name}"  # type: ignore[misc]
    for seed in SIGN_SEEDS if with_signs else ():
        yield lambda seed=seed: signs(seed), sign_name(seed)  # type: ignore[misc]
    for name in strangers() if with_external else ():
        yield lambda name=name: external(name), f"external {name}"  # type: ignore[misc]


def table(rows: dict[str, dict[str, Any]], costs: dict[str, dict[str, Any]], which: str) -> Iterator[str]:
    """A line for each method: means over the networks whose name starts so, and the worst success."""
    yield f"| {which}: repair | networks | accuracy | loss | success before | success | worst | CPU s | passes |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for name in METHODS:
        keys = [key for key in rows if key.startswith(which) and key.endswith(f"| {name}")]
        fine = [rows[key] for key in keys if "after" in rows[key]]
        if not fine:
            continue
        accuracy, success = ([row["after"][what] for row in fine] for what in ("accuracy", "success"))
        loss = np.mean([row["before"]["accuracy"] for row in fine]) - np.mean(accuracy)
        first = np.mean([row["before"]["success"] for row in fine])
        cpu, passes = (np.mean([costs[key][what] for key in keys]) for what in ("CPU seconds", "passes"))
        yield (f"| {name} | {len(fine)} | {np.mean(accuracy):.4f} | {loss:.4f} | {first:.4f} | "
               f"{np.mean(success):.4f} | {max(success):.4f} | {cpu:.1f} | {passes:.0f} |")  # fmt: skip


def main() -> None:
    """Measure what is missing and save after every row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--others", action="store_true", help="shipped networks with other attacks, too")
    parser.add_argument("--signs", action="store_true", help="networks of traffic signs, too; trained if need be")
    parser.add_argument("--external", action="store_true", help="the CIFAR-10 networks below $BTLIB_EXTERNAL, too")
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=list(METHODS), help="default: all")
    parser.add_argument("--guards", action="store_true", help="only what the guard sees before and after")
    parser.add_argument("--note", help="written beside the costs measured now, such as what else the machine did")
    parser.add_argument("--summary", action="store_true", help="print what has been measured")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows, costs = load(PATH).get("rows", {}), load(COSTS).get("rows", {})
    made_by = () if args.summary else cases(args.others, args.external, args.signs)
    jobs = [(make, f"{case} | {method}", method) for make, case in made_by
            for method in args.methods if f"{case} | {method}" not in rows]  # fmt: skip
    if args.guards:
        page = load(PATH)
        for make, name in cases(with_others=True, with_external=False):
            if name in GUARDED and name not in page.get("guards", {}):
                page["guards"] = page.get("guards", {}) | {name: guard(make())}
                save(PATH, page)
        jobs = []
    made: dict[str, Case] = {}
    for make, key, method in tqdm(jobs, unit="row"):
        name = key.partition(" | ")[0]
        if name not in made:
            made = {name: make()}
        rows[key], costs[key] = measured(made[name], method)
        if args.note:
            costs[key]["note"] = args.note
        save(PATH, load(PATH) | {"rows": rows, "environment": environment()})
        save(COSTS, {"rows": costs, "environment": environment()})
    for which in ("fashion-mnist", *(f"another attack, {name} " for name in OTHERS), "gtsrb", "external"):
        print("\n".join(table(rows, costs, which)))


if __name__ == "__main__":
    main()
