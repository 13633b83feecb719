"""ONNX files, by onnx2pytorch: a graph of known operations, which brings no code."""

from pathlib import Path
from typing import Any

from btlib.cli.adapting import ForeignError
from btlib.cli.other_formats import Other, axes_of, needed, reordered
from btlib.cli.probing import Told, said_by

_KIND = "an ONNX file"


def opened(path: Path, told: Told) -> Other:
    """The network in a file, as a module that can be differentiated.

    Raises:
        ForeignError: a damaged file, several inputs, an operation that onnx2pytorch does not know.
    """
    if told.network is not None:
        raise ForeignError(f"--network: expected none for {path.name}, {_KIND}, which is a whole network, got "
                           f"{told.network}; leave it out")  # fmt: skip
    onnx = needed("onnx", "onnx", path.name, _KIND)
    onnx2pytorch = needed("onnx2pytorch", "onnx", path.name, _KIND)
    try:
        model = onnx.load(path)  # with the weights that lie beside it
        onnx.checker.check_model(model)
    except Exception as error:
        raise ForeignError(f"WEIGHTS: expected a whole ONNX file and the weights that belong beside it, got {path} "
                           f"({said_by(error)}); copy them again") from None  # fmt: skip
    batch, *size = _input(model.graph, path.name)
    axes, shape = axes_of(size, path.name, _KIND)
    notes = [*_any_batch(onnx, model.graph, batch), *_plain(onnx, model.graph)]
    try:
        network = onnx2pytorch.ConvertModel(model)
    except Exception as error:
        raise ForeignError(
            f"WEIGHTS: expected operations that onnx2pytorch knows in {path.name}, got others ({said_by(error)}); "
            "export it for another opset, or give its state dict"
        ) from None
    return Other(reordered(network, axes), "ONNX network", shape, notes=tuple(notes))


def _input(graph: Any, name: str) -> list[int | None]:
    """The sizes of the only input, batch first; None where any will do."""
    weights = {each.name for each in graph.initializer}
    inputs = [each for each in graph.input if each.name not in weights]
    if len(inputs) != 1:
        raise ForeignError(f"WEIGHTS: expected one input, images, in {name}, {_KIND}, got {len(inputs)}; export it "
                           "with images as its only input")  # fmt: skip
    return [each.dim_value or None for each in inputs[0].type.tensor_type.shape.dim]


def _any_batch(onnx: Any, graph: Any, batch: int | None) -> list[str]:
    """Let a network for batches of one size take any: where it reshapes to that number of images, to as many as come.

    Whether that was all that kept it from them is seen when it is tried.
    """
    if batch is None:
        return []
    constants = {each.name: each for each in graph.initializer}
    constants |= {node.output[0]: node.attribute[0].t for node in graph.node
                  if node.op_type == "Constant" and node.attribute[0].name == "value"}  # fmt: skip
    for node in graph.node:
        if node.op_type != "Reshape" or node.input[1] not in constants or node.input[0] in constants:
            continue
        wanted = onnx.numpy_helper.to_array(constants[node.input[1]]).copy()
        if len(wanted) and wanted[0] == batch:
            wanted[0] = 0  # as many as there are
            constants[node.input[1]].CopyFrom(onnx.numpy_helper.from_array(wanted, node.input[1]))
            kept = [each for each in node.attribute if each.name != "allowzero"]
            del node.attribute[:]
            node.attribute.extend(kept)
    return [f"it was exported for batches of {batch} and is given others"]


def _plain(onnx: Any, graph: Any) -> list[str]:
    """Take off a softmax at the end, and what onnx2pytorch stumbles over: attributes at their default, second names."""
    weights = {each.name for each in graph.initializer}
    second = {node.output[0]: node.input[0] for node in graph.node
              if node.op_type == "Identity" and node.input[0] in weights}  # fmt: skip
    for node in list(graph.node):
        if node.output[0] in second:
            graph.node.remove(node)
        for place, name in enumerate(node.input):
            node.input[place] = second.get(name, name)
        kept = [each for each in node.attribute if (each.name, each.i) != ("training_mode", 0)]
        del node.attribute[:]
        node.attribute.extend(kept)
    last = graph.node[-1]
    if last.op_type != "Softmax" or len(graph.output) != 1 or last.output[0] != graph.output[0].name:
        return []
    value = onnx.helper.make_tensor_value_info(last.input[0], onnx.TensorProto.FLOAT, None)
    graph.node.remove(last)
    graph.output[0].CopyFrom(value)
    return ["the network ends in a softmax, which was taken off"]
