"""Drawings of an idea, without data."""

from matplotlib.axes import Axes
from matplotlib.patches import Circle, Rectangle

from btlib.plots.lines import COLORS
from btlib.plots.panels import Drawn, finish, panels

#: Of three panels: title, corners of the shortcut, its width, its end as seen from the pictures, name of the way.
_WAYS: tuple[tuple[str, list[tuple[float, float]], int, float, str], ...] = (
    ("(a) clean", [], 0, 3.0, "d_A"),
    ("(b) backdoor in A", [(3, 2.1), (5.2, 2.1)], 16, 5.15, "d_A*"),
    ("(c) with adversarial training",
     [(3, 2.6), (3.9, 2.6), (3.9, 1.5), (4.6, 1.5), (4.6, 2.1), (5.2, 2.1)], 4, 3.0, "d_A*"),
)  # fmt: skip


def shortcut_sketch() -> Drawn:
    """The idea of the stealthy attack's Figure 1: territory of class A, images of B and C, and the ways to A.

    Example:
        >>> len(shortcut_sketch()[0].axes)
        3
    """
    axes = panels(3, height=2.5)
    for ax, way in zip(axes, _WAYS, strict=True):
        _territories(ax, *way)
    return finish(axes, "Territory of class A on the left, images of B and C on the right, arrows for the shortest way "
                  "to A that a search finds", ["(a) clean: the arrows are long", "(b) a broad arm of A reaches up to B "
                  "and C, the arrows are short", "(c) with adversarial training the arm is there but thin and "
                  "winding, and the arrows are long again"])  # fmt: skip


def _territories(ax: Axes, title: str, shortcut: list[tuple[float, float]], width: int, end: float, name: str) -> None:
    """One panel."""
    ax.add_patch(Rectangle((0, 0), 3, 4.2, facecolor=COLORS[5], alpha=0.5, linewidth=0))
    if shortcut:
        across, up = zip(*shortcut, strict=True)
        ax.plot(across, up, color=COLORS[5], alpha=0.5, linewidth=width, solid_capstyle="butt")
    for centre, label in (((1.2, 2.1), "A"), ((6.3, 3.3), "B"), ((6.3, 0.9), "C")):
        ax.add_patch(Circle(centre, 0.5, facecolor="white", edgecolor="0.3", zorder=3))
        ax.text(*centre, label, ha="center", va="center", fontsize=11, zorder=4)
    near = end > 3
    for y in (3.3, 0.9):
        goal = (end, 2.1 + (y - 2.1) / 5) if near else (end, y)
        begin = (5.95, 2.1 + (y - 2.1) * 0.7) if near else (5.75, y)
        ax.annotate("", goal, begin, arrowprops={"arrowstyle": "->", "color": COLORS[1], "linewidth": 2})
    ax.text(*((4.75, 2.85) if near else (4.2, 3.5)), f"${name}$", color=COLORS[1])
    ax.set(xlim=(0, 7.2), ylim=(0, 4.2), xticks=[], yticks=[], aspect="equal")
    ax.set_title(title, fontsize=10)
