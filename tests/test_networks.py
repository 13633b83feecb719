"""Every network: shapes, feature layers, known sizes, and that it computes the textbook's function."""

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from toys import toy_data

from btlib import metrics, networks
from btlib.networks import NETWORKS, Network
from btlib.networks.folding import folded
from btlib.networks.generator import Generator
from btlib.networks.layers import Dropout, MaxPool2, Normalize, PooledConv2d, sequential
from btlib.networks.layout import in_layout
from btlib.networks.small_resnet import Block, Whitening
from btlib.training import RECIPES, fit

# name → shapes worth building (the smallest allowed and the data sets' own)
SHAPES = {
    "lenet5": [(1, 12, 12), (1, 28, 28), (3, 32, 32)],
    "littlenet": [(1, 16, 16), (1, 28, 28), (3, 32, 32)],
    "vgg9": [(1, 16, 16), (1, 28, 28), (3, 32, 32)],
    "vgg16": [(3, 32, 32)],
    "gtsrb_cnn": [(1, 24, 24), (3, 32, 32)],
    "small_resnet": [(1, 16, 16), (3, 32, 32)],
    "resnet18": [(1, 28, 28), (3, 32, 32), (3, 96, 96)],
    "resnet34": [(3, 32, 32)],
    "mobilenet_v2": [(1, 16, 16), (3, 32, 32), (1, 96, 96)],
    "densenet": [(1, 16, 16), (3, 32, 32), (3, 96, 96)],
}
CASES = [(name, shape) for name, shapes in SHAPES.items() for shape in shapes]


def test_every_network_has_its_cases() -> None:
    assert set(SHAPES) == set(NETWORKS)


@pytest.mark.parametrize(("name", "shape"), CASES, ids=str)
def test_logits_features_and_layers(name: str, shape: tuple[int, int, int]) -> None:
    net = networks.build(name, image_shape=shape, num_classes=7, seed=0).eval()
    x = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0))
    before = x.clone()
    with torch.no_grad():
        logits = net(x)
        assert logits.shape == (2, 7)
        assert torch.isfinite(logits).all()
        features = net.features(x)
        assert features.ndim == 2
        torch.testing.assert_close(net.head(features), logits)
        assert net.feature_layers[0] == "penultimate"
        assert len(net.feature_layers) > 1
        for layer in net.feature_layers[1:]:
            # The same activations by running the body module by module, without hooks: what a later in-place
            # layer writes over would differ.
            wanted = until(net, x, layer)
            got = net.features(x, layer)
            assert torch.equal(got, wanted), layer
            assert got.ndim == (2 if layer.startswith("fc") else 4)
        assert torch.equal(net(x), logits), "a hook was left behind"
    assert torch.equal(x, before)
    assert (net.image_shape, net.num_classes, net.card) == (shape, 7, None)


class Stop(Exception):
    pass


def until(net: Network, x: torch.Tensor, layer: str) -> torch.Tensor:
    """Activations of a layer by stopping the network right behind it."""
    caught: list[torch.Tensor] = []

    def stop(module: nn.Module, inputs: object, output: torch.Tensor) -> None:
        caught.append(output)
        raise Stop

    handle = net.body.get_submodule(net._layers[layer]).register_forward_hook(stop)
    try:
        with pytest.raises(Stop):
            net(x)
    finally:
        handle.remove()
    return caught[0]


@pytest.mark.parametrize(
    ("name", "shape", "parameters"),
    [
        ("lenet5", (1, 28, 28), 61_706),  # LeCun et al. 1998 in its ReLU form
        ("littlenet", (1, 28, 28), 582_026),  # 832 + 51,264 + 524,800 + 5,130
        ("resnet18", (3, 32, 32), 11_173_962),  # the CIFAR form of kuangliu/pytorch-cifar: 11.17 M
        ("resnet34", (3, 32, 32), 21_282_122),  # 21.28 M
        (
            "densenet",
            (3, 32, 32),
            769_162 + 48,
        ),  # Huang et al., Table 2: 0.8 M; torchvision normalises the stem too
        ("mobilenet_v2", (3, 32, 32), 2_236_682),  # 3.4 M of Sandler et al. with a head of 10 instead of 1000
    ],
)
def test_parameter_counts_of_the_literature(name: str, shape: tuple[int, int, int], parameters: int) -> None:
    net = networks.build(name, image_shape=shape, num_classes=10)
    assert sum(p.numel() for p in net.parameters()) == parameters


def test_vgg9_has_the_papers_filters() -> None:
    net = networks.build("vgg9", image_shape=(1, 28, 28), num_classes=10)
    convolutions = [m.out_channels for m in net.modules() if isinstance(m, nn.Conv2d)]
    assert convolutions == [16, 32, 64, 64, 128, 128]
    assert [m.out_features for m in net.modules() if isinstance(m, nn.Linear)] == [512, 512, 10]


# ---------------------------------------------------------------------- the small residual network


@pytest.mark.parametrize("channels", [1, 3])
def test_whitening_is_an_orthogonal_basis_and_its_opposite(channels: int) -> None:
    filters = Whitening(channels).filters
    half = filters[: 4 * channels].flatten(1)
    assert torch.equal(filters[4 * channels :].flatten(1), -half)
    lengths = half.norm(dim=1)
    torch.testing.assert_close(half @ half.T / lengths.outer(lengths), torch.eye(4 * channels), rtol=0, atol=1e-5)
    # What photographs have least of, the finest pattern, is amplified most.
    assert lengths[:4].argmax() == 3
    assert lengths[:4].argmin() == 0


def test_whitening_tells_a_chessboard_from_a_plain_image() -> None:
    place = torch.arange(4)
    chessboard = (1 - 2 * ((place[:, None] + place) % 2)).float().expand(1, 3, 4, 4)
    responding = [set(Whitening(3)(x)[0].abs().amax((1, 2)).gt(1e-3).nonzero().flatten().tolist())
                  for x in (torch.ones(1, 3, 4, 4), chessboard)]  # fmt: skip
    assert responding == [{0, 12}, {3, 15}]  # the mean of all colours; the diagonal of all colours


def test_a_block_starts_as_the_identity_and_adds_its_second_half() -> None:
    x = torch.rand(2, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    block = Block(4, 8).eval()
    torch.testing.assert_close(block.conv1(x)[:, :4], x)
    torch.testing.assert_close(block.conv2(block.conv1(x)), block.conv1(x))
    half = nn.functional.gelu(nn.functional.max_pool2d(block.conv1(x), 2) / (1 + block.norm1.eps) ** 0.5)
    torch.testing.assert_close(block(x), nn.functional.gelu(half * (1 + 1 / (1 + block.norm2.eps) ** 0.5)))


def test_the_small_resnets_size_and_frozen_layer() -> None:
    net = networks.build("small_resnet", image_shape=(3, 32, 32), num_classes=10, seed=0)
    convolutions, norms = 24 * 64 + 64 * 64 + 64 * 128 + 3 * 128 * 128, 2 * (64 + 64 + 4 * 128)
    assert sum(p.numel() for p in net.parameters()) == 9 * convolutions + norms + 1290 == 569_354
    assert not list(net.body.whitening.parameters())
    assert "body.whitening.filters" in net.state_dict()
    with torch.device("meta"):  # where `papers` counts the weights of a network that is not made yet
        counted = networks.build("small_resnet", image_shape=(3, 32, 32), num_classes=10)
    assert sum(p.numel() for p in counted.parameters()) == 569_354


def test_the_small_resnet_learns() -> None:
    data = toy_data(train=96, test=30)
    net = networks.build("small_resnet", data, seed=0)
    run = fit(net, data, replace(RECIPES["small-resnet"], epochs=4, batch_size=16, lr=0.2))
    assert run.curve("loss")[-1] < run.curve("loss")[0] / 2
    assert metrics.accuracy(net, data.x_test, data.y_test) > 0.95


@pytest.mark.parametrize("name", ["lenet5", "littlenet"])
@pytest.mark.parametrize("train", [False, True])
def test_relu_behind_pooling_is_the_textbooks_function(name: str, train: bool) -> None:
    """LeNet-5 and LittleNet pool (and drop out) before ReLU; the textbook does it after."""
    net = networks.build(name, image_shape=(1, 28, 28), num_classes=10, seed=0).train(train)
    body, pool, relu = net.body, nn.functional.max_pool2d, nn.functional.relu
    x = torch.rand(16, 1, 28, 28, generator=torch.Generator().manual_seed(1))

    def textbook(x: torch.Tensor) -> torch.Tensor:
        x = net.normalize(x)
        if name == "lenet5":
            x = pool(relu(nn.functional.conv2d(x, body.conv1.weight, body.conv1.bias, padding=2)), 2)
            x = pool(relu(body.conv2(x)), 2).flatten(1)
            return net.head(relu(body.fc2(relu(body.fc1(x)))))
        x = pool(body.drop1(relu(body.conv1(x))), 2)
        x = pool(body.drop2(relu(body.conv2(x))), 2).flatten(1)
        return net.head(body.drop3(relu(body.fc1(x))))

    with torch.no_grad():
        torch.manual_seed(0)  # the same dropout masks in both
        ours = net(x)
        torch.manual_seed(0)
        torch.testing.assert_close(ours, textbook(x))


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 12, 10), (2, 13, 12), (1, 12, 13), (1, 15, 15)])
@pytest.mark.parametrize("padding", [0, 1, 2])
@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_pooled_convolution_is_a_convolution_and_a_pooling(
    shape: tuple[int, int, int], padding: int, kernel: int, order: torch.memory_format
) -> None:
    torch.manual_seed(0)
    layer = PooledConv2d(shape[0], 4, kernel, padding).double().to(memory_format=order)  # type: ignore[call-overload]
    x = torch.rand(3, *shape, dtype=torch.float64).contiguous(memory_format=order).requires_grad_(True)
    textbook = nn.functional.max_pool2d(nn.functional.conv2d(x, layer.weight, layer.bias, padding=padding), 2)
    weights = torch.rand_like(textbook)
    wanted = torch.autograd.grad((textbook * weights).sum(), [x, layer.weight, layer.bias])
    for images in (x, x.detach()):  # with and without a gradient for the images: two ways of computing
        ours = layer(images)
        torch.testing.assert_close(ours, textbook)
        leaves = [leaf for leaf in (images, layer.weight, layer.bias) if leaf.requires_grad]
        found = torch.autograd.grad((ours * weights).sum(), leaves)
        torch.testing.assert_close(found, wanted[-len(found) :])
    with torch.no_grad():
        torch.testing.assert_close(layer(x), textbook)


@pytest.mark.parametrize("shape", [(4, 10, 10), (3, 11, 10), (3, 10, 11), (1, 2, 3)])
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_our_pooling_is_torchs(shape: tuple[int, int, int], order: torch.memory_format) -> None:
    generator = torch.Generator().manual_seed(0)
    # Few different values, so that most windows hold equal ones: the first of them gets the gradient in both.
    x = torch.randint(3, (5, *shape), generator=generator).float().contiguous(memory_format=order).requires_grad_(True)
    ours, textbook = MaxPool2()(x), nn.functional.max_pool2d(x, 2)
    assert torch.equal(ours, textbook)
    weights = torch.rand(textbook.shape, generator=generator)
    found, wanted = (torch.autograd.grad((pooled * weights).sum(), x)[0] for pooled in (ours, textbook))
    assert torch.equal(found, wanted)


def test_a_layout_is_chosen_by_what_a_network_holds() -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    lenet5, littlenet = (networks.build(n, image_shape=(1, 28, 28), num_classes=10) for n in ("lenet5", "littlenet"))
    assert networks.layout(littlenet, cpu) == networks.layout(littlenet, gpu) == torch.channels_last
    assert networks.layout(lenet5, cpu) == torch.contiguous_format
    assert networks.layout(lenet5, gpu) == torch.channels_last
    assert networks.layout(nn.Linear(2, 2), gpu) == torch.contiguous_format


def test_a_strangers_network_is_reordered_only_where_that_changes_nothing() -> None:
    cpu, images = torch.device("cpu"), torch.rand(2, 3, 8, 8)

    class Flattening(nn.Sequential):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = super().forward(x)
            return x.view(len(x), -1)  # as most public code has it: by itself it fails on other orders than the usual

    class Odd(nn.Sequential):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) + float(self[0].weight.is_contiguous())

    with torch.no_grad():
        for network, order in (
            (Flattening(nn.Conv2d(3, 4, 3)), torch.channels_last),
            (Odd(nn.Conv2d(3, 4, 3)), torch.contiguous_format),
            (nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten()), torch.channels_last),
        ):
            assert networks.layout(network, cpu, images) == order
            assert networks.layout(network, cpu) == torch.contiguous_format
            assert network[0].weight.is_contiguous()


def test_a_view_is_the_same_numbers_in_either_order_and_of_bytes_it_stays_a_view() -> None:
    class Viewing(nn.Conv2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = super().forward(x)
            assert x.view(torch.int32).dtype == torch.int32
            return x.view(x.size(0), -1)

    net, images = Viewing(3, 4, 3), torch.rand(2, 3, 8, 8)
    usual = net(images)
    with in_layout(net, torch.channels_last):
        torch.testing.assert_close(net(images), usual)
    with pytest.raises(RuntimeError, match="view size"):
        net(images.to(memory_format=torch.channels_last))


class Residual(nn.Module):
    """Two convolutions, each with batch normalisation, around a shortcut; what stands between is a parameter."""

    def __init__(self, between: nn.Module, shortcut: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.two, self.between = nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.Conv2d(4, 4, 3), between
        self.first, self.second, self.shortcut = nn.BatchNorm2d(4), nn.BatchNorm2d(4, affine=False), shortcut
        for norm in (self.first, self.second):
            norm.running_mean, norm.running_var = torch.randn(4), torch.rand(4) + 0.5
        self.first.weight.data, self.first.bias.data = torch.randn(4), torch.randn(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.between(self.one(x))
        return self.second(self.two(self.first(x) + (x if self.shortcut else 0))).flatten(1)


@pytest.mark.parametrize(
    ("between", "shortcut", "gone"), [(nn.Identity(), False, True), (nn.ReLU(inplace=True), False, False),
                                      (nn.Identity(), True, False)],
)  # fmt: skip
def test_batch_normalisation_is_folded_only_where_that_is_the_same_function(
    between: nn.Module, shortcut: bool, gone: bool
) -> None:
    net, images = Residual(between, shortcut).eval(), torch.rand(4, 3, 8, 8)
    usual, before = net(images), {name: tensor.clone() for name, tensor in net.state_dict().items()}
    plain = torch.ones(1, 4, 1, 1)
    with torch.no_grad(), folded(net, images[:2]):
        assert torch.equal(net.first(plain), plain) == gone
        torch.testing.assert_close(net(images), usual, rtol=1e-4, atol=1e-4)
    assert not torch.equal(net.first(plain), plain)
    assert net.one.bias is None
    assert torch.equal(net(images), usual)
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_weights_are_put_back_after_an_error() -> None:
    layer = nn.Conv2d(3, 6, 5)
    with pytest.raises(RuntimeError), in_layout(layer, torch.channels_last):
        layer(torch.zeros(1, 4, 8, 8))  # of three channels
    assert layer.weight.is_contiguous()


def test_pooled_convolution_gives_the_gradient_of_equal_pixels_to_one_of_them() -> None:
    layer = PooledConv2d(1, 1, 3, padding=1)
    layer.weight.data.zero_()[0, 0, 1, 1] = 1  # the identity
    x = torch.ones(1, 1, 4, 4, requires_grad=True)
    layer(x).sum().backward()
    assert x.grad is not None
    first = torch.zeros(4, 4)
    first[::2, ::2] = 1  # as torch's pooling does it
    assert torch.equal(x.grad[0, 0], first)


def test_rounding_does_not_decide_between_the_equal_pixels_of_a_plain_background() -> None:
    torch.manual_seed(0)
    layer = PooledConv2d(1, 6, 5, padding=2)
    x = torch.full((1, 1, 20, 20), 0.37, requires_grad=True)
    textbook = nn.functional.max_pool2d(nn.functional.conv2d(x, layer.weight, layer.bias, padding=2), 2)
    found, wanted = (torch.autograd.grad(pooled.sum(), x)[0] for pooled in (layer(x), textbook))
    torch.testing.assert_close(found, wanted)


def test_pooled_convolution_can_be_traced_and_exported() -> None:
    net = networks.build("lenet5", image_shape=(1, 28, 28), num_classes=10, seed=0).eval()
    x = torch.rand(2, 1, 28, 28)
    with torch.no_grad():
        wanted = net(x)
        torch.testing.assert_close(torch.jit.trace(net, x)(x), wanted)
        torch.testing.assert_close(torch.export.export(net, (x,)).module()(x), wanted)


def test_pooled_convolution_refuses_an_even_kernel() -> None:
    with pytest.raises(ValueError, match=r"kernel_size: expected an odd number, got 4"):
        PooledConv2d(1, 2, 4)


def test_normalisation_is_inside() -> None:
    data = toy_data(30, 6, channels=3)
    net = networks.build("lenet5", data, seed=0).eval()
    mean, std = data.pixel_statistics
    torch.testing.assert_close(net.normalize.mean.flatten(), mean)
    torch.testing.assert_close(net.normalize.std.flatten(), std)
    out = Normalize(torch.tensor([0.5]), torch.tensor([0.25]))(torch.tensor([[[[0.0, 0.5, 1.0]]]]))
    assert out.flatten().tolist() == [-2.0, 0.0, 2.0]
    # Shifting images and mean together changes nothing; shifting one does.
    x = torch.rand(2, 3, 16, 16) / 2
    with torch.no_grad():
        before = net(x)
        net.normalize.mean += 0.25
        torch.testing.assert_close(net(x + 0.25), before, rtol=1e-4, atol=1e-5)
        assert not torch.allclose(net(x), before, atol=1e-3)


def test_the_anchor_is_where_a_network_computes() -> None:
    double = nn.Sequential(nn.ReLU(), nn.Linear(1, 1)).double()
    assert networks.reference(double) is double[1].weight
    statistics = Normalize(torch.zeros(1), torch.ones(1)).to("meta")  # no parameters, only buffers
    assert networks.reference(statistics).device.type == "meta"
    nothing = networks.reference(nn.ReLU())
    assert (nothing.device.type, nothing.dtype, nothing.numel()) == ("cpu", torch.float32, 0)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (None, "got NoneType; load or build it first"),
        (nn.Linear(1, 1).state_dict(), "got OrderedDict; build it, and fill it with load_state_dict"),
        (nn.ReLU, "got type; call it: ReLU(…)"),
        (str, "got type; load or build it first"),
    ],
)
def test_what_is_no_network(given: object, says: str) -> None:
    with pytest.raises(TypeError, match=re.escape(f"network: expected an nn.Module, {says}")):
        networks.check_network(given)
    networks.check_network(nn.ReLU())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_told_apart(dtype: torch.dtype) -> None:
    for enough in (nn.Linear(1, 1), nn.Linear(1, 1).double(), nn.ReLU()):
        networks.check_precision(enough)
    with pytest.raises(TypeError, match=re.escape(f"got {dtype}; call network.float()")):
        networks.check_precision(nn.Linear(1, 1).to(dtype))


@pytest.mark.parametrize(
    "build",
    [partial(networks.build, "lenet5", image_shape=(1, 28, 28), num_classes=10), partial(Generator, 1)],
    ids=["build", "Generator"],
)
def test_seeds(build: Callable[..., nn.Module]) -> None:
    def weights(**seed: int) -> torch.Tensor:
        return nn.utils.parameters_to_vector(build(**seed).parameters()).detach()

    state = torch.get_rng_state()
    first = weights(seed=0)
    assert torch.equal(torch.get_rng_state(), state), "the caller's random state was used"
    assert torch.equal(weights(), first), "0 is the default"
    assert not torch.equal(weights(seed=1), first)


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        ("alexnet", {"image_shape": (1, 28, 28), "num_classes": 2}, "got 'alexnet'"),
        ("lenet5", {}, "got neither"),
        ("lenet5", {"image_shape": (1, 28, 28)}, "got neither"),
        ("lenet5", {"image_shape": (1, 28, 30), "num_classes": 2}, "got 28×30"),
        ("vgg16", {"image_shape": (3, 28, 28), "num_classes": 2}, "at least 32×32, got 28×28"),
    ],
)
def test_what_cannot_be_built_is_refused(name: str, settings: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        networks.build(name, **settings)  # type: ignore[arg-type]


def test_unknown_feature_layer_is_refused() -> None:
    net = networks.build("lenet5", image_shape=(1, 28, 28), num_classes=2)
    with pytest.raises(ValueError, match="got 'conv9'"):
        net.features(torch.zeros(1, 1, 28, 28), "conv9")


# ---------------------------------------------------------------------------------------------- dropout


def test_dropout_drops_at_its_rate_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    n, rate = 400_000, 26 / 256
    out = Dropout(0.1)(torch.ones(n))
    dropped = (out == 0).double().mean().item()
    # Binomial: five standard deviations of the share of n independent draws.
    assert abs(dropped - rate) < 5 * (rate * (1 - rate) / n) ** 0.5
    assert out.unique().tolist() == pytest.approx([0, 256 / 230])
    assert abs(out.mean().item() - 1) < 5 * (rate / (1 - rate) / n) ** 0.5


def test_dropout_masks_are_independent() -> None:
    torch.manual_seed(0)
    layer = Dropout(0.5)
    a, b = (layer(torch.ones(100_000)) == 0 for _ in range(2))
    both = (a & b).double().mean().item()
    assert abs(both - 0.25) < 5 * (0.25 * 0.75 / 100_000) ** 0.5  # five standard deviations
    assert abs((a[1:] & a[:-1]).double().mean().item() - 0.25) < 5 * (0.25 * 0.75 / 100_000) ** 0.5


def test_dropout_in_evaluation_is_the_identity() -> None:
    x = torch.rand(1000)
    assert torch.equal(Dropout(0.5).eval()(x.clone()), x)
    assert torch.equal(Dropout(0.0)(x.clone()), x)


def test_dropout_follows_torchs_seed() -> None:
    def draw(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return Dropout(0.5)(torch.ones(512))

    assert torch.equal(draw(0), draw(0))
    assert not torch.equal(draw(0), draw(1))


def test_dropout_keeps_channels_last_and_its_rate() -> None:
    torch.manual_seed(0)
    x = torch.ones(8, 16, 20, 20).to(memory_format=torch.channels_last)
    out = Dropout(0.5)(x)
    assert out.is_contiguous(memory_format=torch.channels_last)
    dropped = (out == 0).double()
    assert abs(dropped.mean().item() - 0.5) < 5 * (0.25 / out.numel()) ** 0.5
    # No channel, row or image is treated otherwise: six standard deviations, since many means are compared.
    for keep in range(4):
        means = dropped.mean([d for d in range(4) if d != keep])
        assert (means - 0.5).abs().max() < 6 * (0.25 * out.shape[keep] / out.numel()) ** 0.5


def test_dropouts_gradient_is_its_mask() -> None:
    torch.manual_seed(0)
    leaf = torch.ones(1000, requires_grad=True)
    out = Dropout(0.5)(leaf * 1)
    out.sum().backward()
    assert leaf.grad is not None
    np.testing.assert_array_equal(leaf.grad.numpy(), out.detach().numpy())
    assert set(leaf.grad.unique().tolist()) == {0.0, 2.0}


@pytest.mark.parametrize("p", [-0.1, 1.0, 1.5])
def test_dropout_refuses_what_is_no_probability(p: float) -> None:
    with pytest.raises(ValueError, match=f"got {p}"):
        Dropout(p)


@pytest.mark.parametrize("filters", [1, 3])
def test_the_generators_last_layer_is_the_textbooks_transposed_convolution(filters):
    quick = Generator(filters, seed=0).layers[-2]
    textbook = nn.ConvTranspose2d(32, filters, 4, stride=2, padding=1)
    textbook.load_state_dict(quick.state_dict())
    x = torch.rand(5, 32, 6, 4, generator=torch.Generator().manual_seed(0)).requires_grad_(True)
    up = torch.rand(5, filters, 12, 8, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(quick(x), textbook(x))
    for theirs, ours in zip(*((x, *layer.parameters()) for layer in (textbook, quick)), strict=True):
        (expected,) = torch.autograd.grad(textbook(x), theirs, up)
        (found,) = torch.autograd.grad(quick(x), ours, up)
        torch.testing.assert_close(found, expected)


def test_parts_of_a_sequence_have_names() -> None:
    network = sequential(first=nn.Flatten(), second=nn.ReLU())
    assert [name for name, _ in network.named_children()] == ["first", "second"]


def test_features_come_out_of_the_submodule_that_is_named() -> None:
    net = networks.build("lenet5", image_shape=(1, 28, 28), num_classes=10)
    caught: list[torch.Tensor] = []
    for layer in net.feature_layers:
        hook = net.get_submodule(net.place_of(layer)).register_forward_hook(
            lambda *args: caught.append(args[2].clone())
        )
        expected = net.eval().features(torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(0)), layer)
        hook.remove()
        assert torch.equal(caught[-1], expected), layer
