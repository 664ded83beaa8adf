"""Settings in words, as tables and their lines show them."""

from collections.abc import Iterable, Mapping

from vol3dseg.reporting.document import Table


def facts_table(facts: Mapping[str, str]) -> Table:
    """Return facts with their names; empty ones are left out."""
    return Table(("", ""), tuple((k, v) for k, v in facts.items() if v), text_columns=2)


def worded(values: Mapping[str, object]) -> str:
    """Return settings in words, in a line; what is not set is left out."""
    bare = {"method", "network"}  # whose value says what it is
    names = {name: "" if name in bare else f"{name.replace('_', ' ')} " for name in values}
    return ", ".join(names[k] + listed(v) for k, v in values.items() if v is not None)


def listed(value: object) -> str:
    """Return a value, or the values of a list, as text; of numbers six digits."""
    if isinstance(value, list | tuple):
        return ", ".join(map(listed, value))
    return str(float(f"{value:.6g}")) if isinstance(value, float) else str(value)


def times(lengths: Iterable[float]) -> str:
    """Return lengths along several axes: "40 × 56 × 40"."""
    return " × ".join(f"{length:g}" for length in lengths)
