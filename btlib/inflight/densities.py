"""Densities of standardised features, one mixture per class, and their fast scorer (in-flight 4.2)."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from btlib.datasets.images import check_count

if TYPE_CHECKING:
    from sklearn.mixture import GaussianMixture

Covariance = Literal["shared", "full", "tied", "diag", "spherical"]
COVARIANCES: tuple[str, ...] = get_args(Covariance)


@dataclass(frozen=True)
class DensitySettings:
    """What Section 4.2 leaves open about "a density model (e.g., Gaussian mixture model)"; docs/choices.md has why.

    Attributes:
        components: Gaussians per class.
        covariance: ``"shared"``: one matrix for all components of all classes; ``"tied"``: one for all components
            of a class; ``"full"``, ``"diag"``, ``"spherical"``: one of that form for each component.
        regularization: added to every variance of the standardised features (scikit-learn's ``reg_covar``).
        min_std: features are divided by their standard deviation, but never by less than this share of the root
            mean square over all features. A feature that is dead on the fitting images would otherwise be blown
            up a million times when it wakes.
        seed: of the mixtures' first guess.

    Raises:
        ValueError: a value outside its range.

    Example:
        >>> DensitySettings(covariance="diag").components
        1
    """

    components: int = 1
    covariance: Covariance = "shared"
    regularization: float = 1e-2
    min_std: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        if self.covariance not in COVARIANCES:
            raise ValueError(f"covariance: expected one of {', '.join(COVARIANCES)}, got {self.covariance!r}; "
                             "'shared' is the default")  # fmt: skip
        check_count("components", self.components, usual=1)
        for name in ("regularization", "min_std"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: expected a positive number, got {getattr(self, name)}; "
                                 f"{getattr(type(self), name)} is the default")  # fmt: skip


@dataclass(frozen=True, eq=False)
class Densities:
    """One fitted scikit-learn mixture per class, over features standardised by `mean` and `scale`.

    Attributes:
        classes: the classes that have a density, ascending.
        mixtures: class → fitted `GaussianMixture`.
        mean, scale: float64 (D,).
        settings: what it was fitted with.
        warnings: mixtures that did not settle.
    """

    classes: tuple[int, ...]
    mixtures: Mapping[int, "GaussianMixture"]
    mean: np.ndarray
    scale: np.ndarray
    settings: DensitySettings
    warnings: tuple[str, ...]

    def log_likelihoods(self, features: Tensor) -> Tensor:
        """log P[z|θ_c] by scikit-learn in double precision, float64 (N, classes): exact, and slow."""
        z = (features.double().numpy() - self.mean) / self.scale
        return torch.from_numpy(np.stack([self.mixtures[c].score_samples(z) for c in self.classes], 1))

    def scorer(self) -> "Scorer":
        """The same as matrix products in torch."""
        return Scorer(self.settings.covariance, len(self.classes), _matrices(self))


def fit_densities(features: Mapping[int, Tensor], settings: DensitySettings) -> Densities:
    """Standardise all features together, then fit one mixture to each class (in-flight 4.2).

    Args:
        features: class → float (n, D), at least two images each.
        settings: form of the densities.

    Raises:
        ValueError: a class with fewer images than components, or features that are not finite.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # scikit-learn brings it along

    classes = tuple(sorted(features))
    for c in classes:
        needed = max(2, settings.components)
        if len(features[c]) < needed:
            raise ValueError(f"labels: expected at least {needed} images of class {c} for {settings.components} "
                             f"component(s), got {len(features[c])}; add images, or leave the class out")  # fmt: skip
        if not bool(features[c].isfinite().all()):
            raise ValueError(f"network: expected finite features, got NaN or infinity from images of class {c}; "
                             "check the network's weights")  # fmt: skip
    every = torch.cat([features[c] for c in classes]).double().numpy()
    mean, std = every.mean(0), every.std(0)
    typical = float(np.sqrt((std**2).mean()))
    scale = np.maximum(std, settings.min_std * typical) if typical > 0 else np.ones_like(std)

    mixtures, notes = {}, []
    # Components of one class share a covariance under "shared" too; the classes are pooled below.
    form = "tied" if settings.covariance == "shared" else settings.covariance
    # Matrices this small gain nothing from threads, and beside a busy process they lose a factor of ten.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # said in words by whoever reads `warnings`
        for c in classes:
            mixtures[c] = GaussianMixture(settings.components, covariance_type=form, random_state=settings.seed,
                                          reg_covar=settings.regularization)  # fmt: skip
            z = (features[c].double().numpy() - mean) / scale
            if settings.covariance == "shared" and settings.components == 1:
                _fit_one(mixtures[c], z)
                continue
            mixtures[c].fit(z)
            if not mixtures[c].converged_:
                notes.append(f"the mixture of class {c} did not settle in {mixtures[c].max_iter} rounds")
    if settings.covariance == "shared":
        _pool(mixtures, [len(features[c]) for c in classes])
    return Densities(classes, mixtures, mean, scale, settings, tuple(notes))


def _fit_one(mixture: "GaussianMixture", z: np.ndarray) -> None:
    """What EM ends with where there is one component, in closed form and with the same sums.

    Its precision is left out: `_pool` makes that of all classes. EM would invert a matrix three times a class, which
    with 2,000 features takes minutes.
    """
    count = len(z) + 10 * np.finfo(float).eps  # as scikit-learn guards its divisions
    means = np.ones((1, len(z))) @ z / count
    covariance = (z.T @ z - count * means.T @ means) / count
    covariance.flat[:: len(covariance) + 1] += mixture.reg_covar
    mixture.weights_, mixture.means_, mixture.covariances_ = np.ones(1), means, covariance
    mixture.converged_, mixture.n_features_in_ = True, z.shape[1]


def _pool(mixtures: Mapping[int, "GaussianMixture"], counts: list[int]) -> None:
    """Give all classes one covariance, the mean of theirs weighted by images: maximum-likelihood for one component."""
    together = np.average([mixture.covariances_ for mixture in mixtures.values()], axis=0, weights=counts)
    precision = np.linalg.inv(together)
    for mixture in mixtures.values():
        mixture.covariances_, mixture.precisions_ = together, precision
        mixture.precisions_cholesky_ = np.linalg.cholesky(precision)


class Scorer(nn.Module):
    """Log-likelihoods of all classes as matrix products; a fitted scikit-learn mixture is only their source.

    With one covariance for all, z'Σ⁻¹z is the same for every class and drops out: what is left is linear in the
    features. With one per class it is ``constant - ½‖features·B - a‖²`` per component, B being the Cholesky
    factor of the precision with the standardisation folded in.
    """

    matrix: Tensor
    offset: Tensor
    constant: Tensor

    def __init__(self, covariance: str, classes: int, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.covariance, self.classes = covariance, classes
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor)

    def ordered(self, order: Sequence[int]) -> "Scorer":
        """The same with its classes in another order: class i is now what class ``order[i]`` was."""
        parts = {}
        for name, tensor in self.named_buffers():
            if tensor.numel():
                axis = int(name == "matrix" and self.covariance not in ("diag", "spherical"))  # its columns are theirs
                by_class = tensor.unflatten(axis, (self.classes, -1))
                tensor = by_class.index_select(axis, torch.tensor(order, device=tensor.device)).flatten(axis, axis + 1)
            parts[name] = tensor
        return Scorer(self.covariance, self.classes, parts)

    def forward(self, features: Tensor) -> Tensor:
        """Features (N, D), not standardised → (N, classes), up to a term that all classes have in common."""
        return self.combined(self.joint(features))

    def combined(self, joint: Tensor) -> Tensor:
        """Components of a class summed: (N, classes·components) → (N, classes)."""
        if joint.shape[1] == self.classes:
            return joint
        return joint.unflatten(1, (self.classes, -1)).logsumexp(-1)

    def joint(self, features: Tensor) -> Tensor:
        """log weight + log density of every component, (N, classes·components)."""
        if self.covariance == "shared":
            return torch.addmm(self.constant, features, self.matrix)
        if self.covariance in ("diag", "spherical"):
            away = features[:, None] * self.matrix - self.offset  # (N, components, D)
        else:
            away = torch.addmm(-self.offset.flatten(), features, self.matrix).unflatten(1, self.offset.shape)
        return self.constant - torch.linalg.vector_norm(away, dim=-1).square() / 2


def _matrices(densities: Densities) -> dict[str, Tensor]:
    """The scorer's tensors, computed in double precision."""
    settings, form = densities.settings, densities.settings.covariance
    mean, scale, width = densities.mean, densities.scale, len(densities.mean)
    fitted = [densities.mixtures[c] for c in densities.classes]
    means = np.concatenate([mixture.means_ for mixture in fitted])  # (classes·components, D)
    log_weights = np.concatenate([np.log(mixture.weights_) for mixture in fitted])
    if form == "shared":
        weights = means @ fitted[0].precisions_  # Σ⁻¹μ
        constant = log_weights - (weights * means).sum(1) / 2
        matrix = weights / scale
        return _tensors(matrix.T, np.zeros(0), constant - matrix @ mean)
    factors = [mixture.precisions_cholesky_ for mixture in fitted]
    if form in ("diag", "spherical"):
        roots = np.concatenate([np.broadcast_to(f if f.ndim == 2 else f[:, None], (settings.components, width))
                                for f in factors])  # fmt: skip
        log_det = np.log(roots).sum(1)
        matrix = roots / scale
        return _tensors(matrix, roots * means + matrix * mean, log_weights + log_det)
    whole = np.concatenate([np.broadcast_to(f, (settings.components, width, width)) for f in factors])
    log_det = np.log(np.diagonal(whole, axis1=1, axis2=2)).sum(1)
    matrix = whole / scale[:, None]  # (components, D, D)
    offset = np.einsum("kd,kde->ke", means, whole) + mean @ matrix
    return _tensors(np.concatenate(list(matrix), 1), offset, log_weights + log_det)


def _tensors(matrix: np.ndarray, offset: np.ndarray, constant: np.ndarray) -> dict[str, Tensor]:
    named = {"matrix": matrix, "offset": offset, "constant": constant}
    return {name: torch.tensor(np.ascontiguousarray(array), dtype=torch.float32) for name, array in named.items()}
