"""YAML as plain values: nothing that grows, is given twice, or is more than data.

Scalars are those of YAML 1.2's core schema, hence of JSON: 1e-3 is a number, 010 is ten, and a
class may be called `no`. Limits hold before anything is built.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import yaml

MOST_BYTES = 2**18  # of a text; 255 classes with their codes take a quarter
_DEEPEST = 32
_MOST_VALUES = 20_000  # aliases written out
_LONGEST_NUMBER = 30  # characters
_PREFIX = "tag:yaml.org,2002:"
_SCALARS: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "null": ("~|null|Null|NULL|", lambda text: None),
    "bool": ("true|True|TRUE|false|False|FALSE", lambda text: text.lower() == "true"),
    "int": ("[-+]?[0-9]+", int),
    "float": (
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        lambda text: float(re.sub(r"\.(?=[a-zA-Z])", "", text)),
    ),
    "merge": ("<<", str),
}


class _Loader(yaml.SafeLoader):
    """Composes nodes, no deeper than is good."""

    yaml_implicit_resolvers: Any = {}
    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Compose a node and what is in it."""
        self.depth += 1
        if self.depth > _DEEPEST:
            raise ValueError(f"nested deeper than {_DEEPEST}")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


class _Dumper(yaml.SafeDumper):
    """Quotes what either version of YAML would take for something else than text."""


for _tag, (_pattern, _) in _SCALARS.items():
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(_PREFIX + _tag, re.compile(f"(?:{_pattern})$"), None)


def values_of_yaml(text: str) -> Any:
    """Return what a YAML text says; what is wrong is a ValueError, in words."""
    try:
        node = yaml.compose(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error
    return None if node is None else _Reader().value(node, ())


def yaml_of_values(values: Any, compact: bool = False) -> str:
    """Return a YAML text that says these values, in their order.

    A compact one has lists and mappings of single values on one line.
    """
    flow = None if compact else False
    return yaml.dump(
        values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=flow
    )


class _Reader:
    """Builds values from nodes and counts them, so that aliases of aliases come to an end."""

    def __init__(self) -> None:
        self._count = 0

    def value(self, node: Any, around: tuple[Any, ...]) -> Any:
        """Return the value of a node; `around` are those that it lies in."""
        self._count += 1
        if self._count > _MOST_VALUES:
            raise ValueError(f"more than {_MOST_VALUES} values, with aliases (*name) written out")
        if any(node is outer for outer in around):
            raise ValueError(f"an alias (*name) in what it stands for, {_line(node)}")
        if isinstance(node, yaml.MappingNode) and node.tag == f"{_PREFIX}map":
            return self._mapping(node, (*around, node))
        if isinstance(node, yaml.SequenceNode) and node.tag == f"{_PREFIX}seq":
            return [self.value(each, (*around, node)) for each in node.value]
        if isinstance(node, yaml.ScalarNode):
            return _scalar(node)
        raise ValueError(f"the tag {node.tag}, {_line(node)}; plain data need none")

    def _mapping(self, node: yaml.MappingNode, around: tuple[Any, ...]) -> dict[Any, Any]:
        merged: dict[Any, Any] = {}
        own: dict[Any, Any] = {}
        for key, inner in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise ValueError(f"a key that is a list or mapping, {_line(key)}")
            value = self.value(inner, around)
            if key.tag == f"{_PREFIX}merge":  # <<: *others
                for each in value if isinstance(value, list) else [value]:
                    merged = {**(each if isinstance(each, dict) else {}), **merged}
                continue
            name = _scalar(key)
            if name in own:
                raise ValueError(f"the key {name!r} for the second time, {_line(key)}")
            own[name] = value
        return {**merged, **own}


def _scalar(node: yaml.ScalarNode) -> Any:
    kind = node.tag.removeprefix(_PREFIX)
    if kind == "str":
        return node.value
    if kind not in _SCALARS:
        raise ValueError(f"the tag {node.tag}, {_line(node)}; plain data need none")
    if kind in {"int", "float"} and len(node.value) > _LONGEST_NUMBER:
        raise ValueError(f"a number of {len(node.value)} characters, {_line(node)}")
    try:
        return _SCALARS[kind][1](node.value)
    except ValueError as error:
        raise ValueError(f"{node.value!r:.60} is no {kind}, {_line(node)}") from error


def _line(place: Any) -> str:
    return f"line {place.start_mark.line + 1}"
