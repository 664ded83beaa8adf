"""Choices: keys of a config, each with its value and the rule that it follows, and their text."""

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from vol3dseg.config import Config, parse_config
from vol3dseg.config.yaml_text import yaml_of_values

_WIDE = 100  # characters of a line
_INDENT = "  "


@dataclass(frozen=True, slots=True)
class Choice:
    """What stands at a key such as "model.depth", and why: the rule with its numbers."""

    key: str
    value: Any
    why: str


def config_of(choices: Iterable[Choice]) -> Config:
    """Return the config that has these choices, and defaults elsewhere."""
    return parse_config(_nested(choices), "the plan")


def yaml_of_choices(choices: Sequence[Choice], head: Iterable[str]) -> str:
    """Return a YAML text with the reason above each key; `head` are paragraphs at its beginning."""
    lines = [line for paragraph in head for line in _comment(paragraph, "")]
    sections = dict.fromkeys(choice.key.partition(".")[0] for choice in choices)
    for section in sections:
        lines += ["", f"{section}:"]
        for choice in choices:
            place, _, key = choice.key.partition(".")
            if place == section:
                lines += _comment(choice.why, _INDENT)
                lines += _entry(key, choice.value)
    return "\n".join(lines) + "\n"


def _nested(choices: Iterable[Choice]) -> dict[str, dict[str, Any]]:
    data: dict[str, dict[str, Any]] = {}
    for choice in choices:
        section, _, key = choice.key.partition(".")
        data.setdefault(section, {})[key] = choice.value
    return data


def _comment(text: str, indent: str) -> list[str]:
    shown = " ".join("".join(c if c.isprintable() else "?" for c in text).split())
    start = f"{indent}# "
    return textwrap.wrap(shown, _WIDE, initial_indent=start, subsequent_indent=start)


def _entry(key: str, value: Any) -> list[str]:
    compact = isinstance(value, list | dict)
    return textwrap.indent(yaml_of_values({key: value}, compact), _INDENT).splitlines()
