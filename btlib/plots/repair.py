"""Accuracy against success, repair by repair."""

from collections.abc import Mapping, Sequence

from btlib.plots.lines import COLORS, MARKERS
from btlib.plots.panels import Drawn, finish, panels


def repair_paths(about: str, paths: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> Drawn:
    """Success (across, should fall) against accuracy (up, should stay): each repair a point, or a path step by step.

    Args:
        about: what is seen, in a sentence.
        paths: name → successes and accuracies, one of each or one for each step. "before" is drawn as a star.

    Raises:
        ValueError: more repairs than can be told apart.

    Example:
        >>> repair_paths("Caps heal", {"before": ([1.0], [0.9]), "caps": ([0.03], [0.89])})[1]
        'Caps heal. before 1 at 0.9; caps 0.03 at 0.89.'
    """
    kinds = [(marker, color) for marker, color in zip(MARKERS, COLORS, strict=True) if marker != "*"]
    others = [name for name in paths if name != "before"]
    if len(others) > len(kinds):
        raise ValueError(
            f"paths: expected at most {len(kinds)} beside 'before', got {len(others)}; use several figures"
        )
    (ax,) = panels(1, width=7.5, height=4.4)
    style = dict(zip(others, kinds, strict=False)) | {"before": ("*", "black")}
    for name, (success, accuracy) in paths.items():
        marker, color = style[name]
        size, front = (14.0, 4) if marker == "*" else (7.0, 3)
        ax.plot(success, accuracy, marker=marker, color=color, label=name, markersize=size, zorder=front, linewidth=1,
                markeredgecolor="white", alpha=0.9)  # fmt: skip
    ax.set(xlabel="attack success rate (should fall)", ylabel="accuracy (should stay)", xlim=(-0.04, 1.04))
    ax.grid(alpha=0.3)
    return finish([ax], about, [f"{name} {asr[-1]:.2g} at {acc[-1]:.2g}" for name, (asr, acc) in paths.items()])
