"""torch.export archives as modules with layers: for what has to look into a network."""

import torch
from torch import nn
from torch.fx import Graph


def layered(program: torch.export.ExportedProgram) -> nn.Module:
    """The exported network as the tree of modules that it was made from, in evaluation mode; it can be copied.

    Its linear layers are torch's own again, so that the last one is found. An archive's module as torch gives it is one
    flat program, which is faster and shows no layers.

    Args:
        program: for batches of any size.

    Example:
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)).eval()
        >>> batch = ({0: torch.export.Dim("batch")},)
        >>> tree = layered(torch.export.export(net, (torch.rand(2, 1, 2, 2),), dynamic_shapes=batch))
        >>> [name for name, module in tree.named_modules() if isinstance(module, nn.Linear)]
        ['1', '3']
    """
    network = torch.export.unflatten(program)
    network.check_input_constraints, network.input_placeholders = False, []  # they are checked before
    for name, module in list(network.named_modules()):
        made = getattr(module, "graph_module", None)
        graphs: list[Graph] = [each.graph for each in (module, made) if hasattr(each, "graph")]  # type: ignore[union-attr]
        for node in (node for graph in graphs for node in graph.nodes):
            node.meta = {}  # shapes by symbols, which can't be copied
        for each in (module, *([] if made is None else [made])):
            vars(each).get("meta", {}).clear()
        calls = [node.target for node in graphs[0].nodes if node.op == "call_function"] if graphs else []
        if name and calls == [torch.ops.aten.linear.default]:
            parent, _, child = name.rpartition(".")
            network.get_submodule(parent)._modules[child] = _linear(module)
    return network.eval()


def _linear(module: nn.Module) -> nn.Linear:
    """The layer whose weights a module holds."""
    weight = module.get_parameter("weight")
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    layer.weight = weight
    layer.bias = module.get_parameter("bias") if "bias" in module._parameters else None  # type: ignore[assignment]
    return layer
