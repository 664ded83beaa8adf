"""Which mutants are made of a module: cosmic-ray's, and those that take a check away.

cosmic-ray has an operator for each pair of signs, which asks one test the same question many times.
Here a sign is replaced by the one or two that are nearest to it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import parso
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.operator import Operator
from cosmic_ray.plugins import get_operator

_COMPARISONS = (
    *("Lt_LtE", "Lt_GtE", "LtE_Lt", "LtE_Gt", "Gt_GtE", "Gt_LtE", "GtE_Gt", "GtE_Lt"),
    *("Eq_NotEq", "NotEq_Eq", "Is_IsNot", "IsNot_Is"),
)
_SIGNS = ("Add_Sub", "Sub_Add", "Mul_Add", "Div_Mul", "FloorDiv_Mul", "Mod_Mul", "Pow_Mul")
_SETS = ("BitOr_BitAnd", "BitAnd_BitOr", "LShift_RShift", "RShift_LShift")
_OTHERS = (
    *("AddNot", "ReplaceAndWithOr", "ReplaceOrWithAnd", "ReplaceTrueWithFalse"),
    *("ReplaceFalseWithTrue", "ReplaceUnaryOperator_Delete_Not", "ReplaceContinueWithBreak"),
    *("NumberReplacer", "RemoveDecorator", "ZeroIterationForLoop"),
)
_CALLS = {"atom_expr", "power", "yield_expr", "await_expr"}
Place = tuple[tuple[int, int], tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Mutant:
    """A module with one thing in it changed."""

    operator: str
    place: Place  # of what is changed: line and column of both ends
    code: str


class RemoveStatement(Operator):
    """Take away a call that nothing is done with, a yield or a raise."""

    def mutation_positions(self, node: Any) -> Iterator[Place]:
        """Give where one stands."""
        for child in self._statements(node):
            yield child.start_pos, child.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        """Put nothing in its place."""
        child = list(self._statements(node))[index]
        return _replaced(node, child, "pass")

    @classmethod
    def examples(cls) -> tuple[()]:
        """None are needed."""
        return ()

    @staticmethod
    def _statements(node: Any) -> list[Any]:
        if node.type != "simple_stmt":
            return []
        kinds = _CALLS | {"raise_stmt"}
        return [n for n in node.children if n.type in kinds or getattr(n, "value", "") == "raise"]


class RemoveCheck(RemoveStatement):
    """Let a condition never hold, or a filter of a comprehension always."""

    def mutate(self, node: Any, index: int) -> Any:
        """Put the constant in its place."""
        child = self._statements(node)[index]
        return _replaced(node, child, "True" if node.type == "comp_if" else "False")

    @staticmethod
    def _statements(node: Any) -> list[Any]:
        words = {"if_stmt": ("if", "elif"), "comp_if": ("if",), "while_stmt": ("while",)}
        found, children = words.get(node.type, ()), getattr(node, "children", [])
        return [b for a, b in pairwise(children) if str_of(a) in found]


class SwapMembership(RemoveStatement):
    """Swap `in` and `not in`."""

    def mutate(self, node: Any, index: int) -> Any:
        """Put the other in its place."""
        child = self._statements(node)[index]
        return _replaced(node, child, "in" if child.type == "comp_op" else "not in")

    @staticmethod
    def _statements(node: Any) -> list[Any]:
        if node.type != "comparison":
            return []
        return [n for n in node.children[1::2] if " ".join(str_of(n).split()) in ("in", "not in")]


def str_of(node: Any) -> str:
    """Return the code of a node, without what stands before it."""
    return str(node.get_code(include_prefix=False))


def _replaced(parent: Any, child: Any, text: str) -> Any:
    place = parent.children.index(child)
    leaf = parso.python.tree.Name(text, child.start_pos, child.get_first_leaf().prefix)
    parent.children[place] = leaf
    leaf.parent = parent
    return parent


def _operators() -> Iterator[tuple[str, Operator]]:
    names = [f"ReplaceComparisonOperator_{pair}" for pair in _COMPARISONS]
    names += [f"ReplaceBinaryOperator_{pair}" for pair in (*_SIGNS, *_SETS)]
    for name in (*names, *_OTHERS):
        yield name, get_operator(f"core/{name}")()
    for ours in (RemoveStatement, RemoveCheck, SwapMembership):
        yield ours.__name__, ours()


def mutants_of(source: str) -> list[Mutant]:
    """Return all mutants of a module, by their place; types of arguments are left alone."""
    tree = get_ast(source)
    annotated = set(_annotated(tree))
    found = []
    for name, operator in _operators():
        places = [p for node in ast_nodes(tree) for p in operator.mutation_positions(node)]
        for number, (start, end) in enumerate(places):
            unpacks = "BinaryOperator" in name and not _computes(tree.get_leaf_for_position(start))
            if start in annotated or unpacks:
                continue
            code = mutate_code(source, operator, number)
            if _compiles(code):
                found.append(Mutant(name, (tuple(start), tuple(end)), code))
    return sorted(found, key=lambda mutant: (mutant.place, mutant.operator))


def _computes(sign: Any) -> bool:
    """Return whether a sign stands between two values, and does not unpack one."""
    return sign.parent.type in {"arith_expr", "term", "power", "expr", "and_expr", "shift_expr"}


def _compiles(code: str) -> bool:
    try:
        compile(code, "mutant", "exec")
    except SyntaxError:
        return False
    return True


def _annotated(tree: Any) -> Iterator[tuple[int, int]]:
    """Give where in types and decorators something begins: they check nothing."""
    for node in ast_nodes(tree):
        types = []
        if node.type == "annassign":
            types = node.children[1:2]
        elif node.type in {"funcdef", "param"} and node.annotation is not None:
            types = [node.annotation]
        elif node.type == "decorator":  # whether a dataclass is frozen is no check
            types = node.children[1:]
        for each in types:
            yield from (leaf.start_pos for leaf in ast_nodes(each))
