"""Operators that cosmic-ray lacks: a statement that is removed, and an argument that is not given."""

from collections.abc import Iterator
from typing import Any

import parso
from cosmic_ray.operators.operator import Example, Operator
from parso.python.tree import PythonNode

Position = tuple[tuple[int, int], tuple[int, int]]


class RemoveStatement(Operator):
    """Removes an error that is raised, a call whose result is not used, or an assignment in place."""

    def mutation_positions(self, node: Any) -> Iterator[Position]:
        if isinstance(node, PythonNode) and node.type == "simple_stmt" and _has_effect(node.children[0]):
            yield node.children[0].start_pos, node.children[0].end_pos

    def mutate(self, node: Any, index: int) -> Any:
        statement = node.children[0]
        node.children[0] = parso.parse(statement.get_first_leaf().prefix + "pass")
        return node

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        return Example("raise ValueError\n", "pass\n"), Example("f(x)\n", "pass\n"), Example("x += 1\n", "pass\n")


class RemoveArgument(Operator):
    """Removes an argument that is given by its name, where the default may do."""

    def mutation_positions(self, node: Any) -> Iterator[Position]:
        # a list, since cosmic-ray goes on with it when an argument is gone
        yield from [(node.children[k].start_pos, node.children[k].end_pos) for k in _named_arguments(node)]

    def mutate(self, node: Any, index: int) -> Any:
        k = _named_arguments(node)[index]
        if node.type == "trailer":
            del node.children[k]
        elif k + 1 < len(node.children):
            node.children[k + 2 : k + 3] = [_with_prefix(child, node.children[k]) for child in node.children[k + 2 : k + 3]]
            del node.children[k : k + 2]
        else:
            del node.children[k - 1 : k + 1]
        return node

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        return (
            Example("f(x, k=1)", "f(x)"),
            Example("f(k=1)", "f()"),
            Example("f(k=1, m=2)", "f(m=2)"),
            Example("f(k=1, m=2)", "f(k=1)", occurrence=1),
        )


OPERATORS = {operator.__name__: operator for operator in (RemoveStatement, RemoveArgument)}


class Provider:
    """The operators, as cosmic-ray asks for them."""

    def __iter__(self) -> Iterator[str]:
        return iter(OPERATORS)

    def __getitem__(self, name: str) -> type[Operator]:
        return OPERATORS[name]


def register() -> None:
    """Adds the operators to those of cosmic-ray."""
    import cosmic_ray.plugins

    cosmic_ray.plugins.OPERATOR_PROVIDERS["pixyz"] = Provider()


def _has_effect(node: Any) -> bool:
    if node.type == "raise_stmt":
        return len(node.children) > 1
    if node.type == "expr_stmt":
        return (
            getattr(node.children[1], "type", "") == "operator" and node.children[1].value != "=" and node.children[1].value.endswith("=")
        )
    return node.type == "atom_expr" and node.children[-1].type == "trailer" and node.children[-1].children[0].value == "("


def _named_arguments(node: Any) -> list[int]:
    inside = node.type == "arglist" or (node.type == "trailer" and node.children[0].value == "(" and len(node.children) == 3)
    if not inside:
        return []
    return [
        k for k, child in enumerate(node.children) if child.type == "argument" and len(child.children) == 3 and child.children[1] == "="
    ]


def _with_prefix(node: Any, model: Any) -> Any:
    node.get_first_leaf().prefix = model.get_first_leaf().prefix
    return node
