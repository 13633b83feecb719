"""After the alarm: take the backdoor out of a network and keep its accuracy, with clean images only (floor 3).

Every repair is called alike, ``FineTuning()(network, images, labels)``, and returns a `Repaired` with a changed copy.
"""

from btlib.registry import Registry
from btlib.repair.base import Repair, Repaired
from btlib.repair.caps import ActivationCaps, with_caps
from btlib.repair.finetuning import FineTuning, Unlearning
from btlib.repair.implicit import ImplicitUnlearning
from btlib.repair.neuron_pruning import AdversarialNeuronPruning
from btlib.repair.pruning import ChannelLipschitz, FinePruning

#: Every repair by its name; ``REPAIRS[name]()`` has the default settings.
REPAIRS: Registry[type[Repair]] = Registry({
    kind.name: kind
    for kind in (
        FineTuning, Unlearning, FinePruning, AdversarialNeuronPruning, ImplicitUnlearning, ActivationCaps,
        ChannelLipschitz,
    )
})  # fmt: skip

__all__ = [
    "REPAIRS", "ActivationCaps", "AdversarialNeuronPruning", "ChannelLipschitz", "FinePruning", "FineTuning",
    "ImplicitUnlearning", "Repair", "Repaired", "Unlearning", "with_caps",
]  # fmt: skip
