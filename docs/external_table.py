"""Copy results/external.json into docs/scanning.md: python docs/external_table.py"""

import json
import re

from btlib.files import written_whole
from btlib.paths import CHECKOUT

PAGE = CHECKOUT / "docs" / "scanning.md"
PART = re.compile("(<!-- from results/external.json.*?-->\n).*?(?=<!-- end -->)", re.DOTALL)
TITLES = ("network", "target", "named", "p, Neural Cleanse", "p, RED-A", "seconds", "guard TPR", "FPR", "SIA")


def table() -> str:
    """A row for each network, from the JSON alone."""
    rows = json.loads((CHECKOUT / "results" / "external.json").read_text(encoding="utf-8"))["rows"]
    lines = [f"| {' | '.join(TITLES)} |", "|" + "---|" * len(TITLES)]
    for name, row in rows.items():
        p = [_p(row["methods"][method]) for method in ("neural-cleanse", "red-a")]
        guard = [f"{row['guard'][rate]:.3f}" for rate in ("tpr", "fpr", "sia")]
        suspected = "".join(f", {target} suspected" for target in row.get("suspects", ()))
        named = ", ".join(map(str, row["targets"])) or f"none{suspected}"
        cells = [name, str(row["target"]), named, *p, str(round(row["seconds"])), *guard]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _p(told: dict[str, float]) -> str:
    washed = told.get("washed_p")
    return f"{told['calibrated_p']:.4f}" + ("" if washed is None else f" (beside a washed copy {washed:.4f})")


def page(text: str) -> str:
    """The page with the table as it should be."""
    return PART.sub(lambda found: found[1] + table(), text)


def main() -> None:
    """Rewrite the table."""
    text = PAGE.read_text(encoding="utf-8")
    with written_whole(PAGE) as part:
        part.write_text(page(text), encoding="utf-8")


if __name__ == "__main__":
    main()
