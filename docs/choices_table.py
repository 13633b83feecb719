"""Copy the measured rows of results/choice-*.json into docs/choices.md: python docs/choices_table.py"""

import json

from btlib.files import written_whole
from btlib.paths import CHECKOUT

PAGE = CHECKOUT / "docs" / "choices.md"
HEADING = "## Measured\n"
TITLES = {"success": "attack success rate"}


def tables() -> str:
    """The page's last part, from the JSON files alone."""
    parts = [HEADING]
    for path in sorted((CHECKOUT / "results").glob("choice-*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        link = f"[{path.name}](../results/{path.name})"
        parts.append(f"\n### {result['choice']}\n{result['network']} on {result['data']}, {link}.\n")
        columns = list(next(iter(result["rows"].values())))
        titles = ["setting", *(TITLES.get(column, column) for column in columns)]
        parts.append(f"\n| {' | '.join(titles)} |\n|{'---|' * len(titles)}\n")
        for name, row in result["rows"].items():
            parts.append(f"| {name} | {' | '.join(f'{row[column]:.4f}' for column in columns)} |\n")
    return "".join(parts)


def main() -> None:
    """Rewrite the page's last part."""
    text = PAGE.read_text(encoding="utf-8").split(HEADING)[0]
    with written_whole(PAGE) as part:
        part.write_text(text + tables(), encoding="utf-8")


if __name__ == "__main__":
    main()
