"""`docs/bad-inputs.md`, written from the rows: `make catalogue-page`."""

from pathlib import Path

from tests.catalogue.catalogue import GROUPS
from tests.catalogue.row import Row

PAGE = Path(__file__).resolve().parents[2] / "docs" / "bad-inputs.md"
_INTRODUCTION = """\
# Bad inputs

<!-- Written by `make catalogue-page` from tests/catalogue, where each row is a test. -->

What vol3dseg does with inputs that are damaged, incomplete, ambiguous or unusual. Each is read
right, or refused in one line that says where, what was found, what was expected and how to mend it;
nothing is left under a final name then, and the exit code is 1. Other cases of the data set go on.
What is read right after something was put right is noted; what looks wrong and is read all the same
is warned of.

`--repair` (off unless given) makes the repairs of the last column, and each is recorded with its
case, in `index.json` and `predictions.json`. Where that column is empty, it changes nothing. What
needs a value stands in the [table](datasets.md#the-table) of the data set: which volume of a file,
what replaces NaN, which series of a folder, and what is resampled.

Each row is one case in a table, `DATA/cases.csv`, with two images and a label map, of which what
the row says is wrong. It is tried with `vol3dseg preprocess DATA/cases.csv -o OUT --config C`, or
with `vol3dseg predict model.onnx DATA/cases.csv -o OUT` where the row says "segmented"; before the
message stands `failed: case <id>:`, or `error:` where it is about all. `vol3dseg check
DATA/cases.csv --config C` says the same.
"""


def page() -> str:
    """Return the whole page."""
    return "\n".join([_INTRODUCTION, *(_group(group) for group in GROUPS)])


def _group(group) -> str:
    heads = ["", "the input", "outcome", "message", "with `--repair`"]
    lines = [f"## {group.title}", "", group.words, "", _line(heads), _line(["---"] * len(heads))]
    return "\n".join([*lines, *(_line(_cells(row)) for row in group.rows), ""])


def _cells(row: Row) -> list[str]:
    result = "refused" if row.refused else row.result or "read"
    return [row.name, row.given, result, _code(row.refused or row.said), _code(row.repaired)]


def _code(text: str) -> str:
    """Return lines of a message as code, with short names for the folders."""
    named = text.replace("{folder}", "DATA").replace("{out}", "OUT")
    return "<br>".join(_quoted(line) for line in named.splitlines())


def _quoted(line: str) -> str:
    fence = "``" if "`" in line else "`"
    return f"{fence}{line}{fence}"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
