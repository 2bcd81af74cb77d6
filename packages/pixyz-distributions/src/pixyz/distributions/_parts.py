"""Leaves that are made of several single conditionals: which ones they take, and how they ask the scope for them."""

from collections.abc import Iterable, Sequence
from typing import Any

from pixyz.core import (
    BATCH,
    Binding,
    Dims,
    Distribution,
    Factor,
    FormulaError,
    KindError,
    Leaf,
    Scope,
    ShapeError,
    common_sizes,
    suggest,
    union,
)

from ._given import Given, Shape


def single_conditionals(parts: Iterable[Distribution], who: str, word: str) -> tuple[Factor, ...]:
    """The conditionals of these distributions, under the names that renaming gave them.

    Raises:
        KindError: for anything but distributions.
        FormulaError: for products and marginals, for none at all, or for different variables.
    """
    if isinstance(parts, Distribution) or not isinstance(parts, Iterable):
        raise KindError(f"{who} takes a list of {word}s; got a {type(parts).__name__}. Write [{word}, ...].")
    factors: list[Factor] = []
    for part in parts:
        if not isinstance(part, Distribution):
            raise KindError(f"{who} takes distributions; got a {type(part).__name__}.")
        if len(part.factors) > 1 or part.hidden_var:
            raise FormulaError(f"{who}: each {word} is one conditional, like p(x|z); {part.prob_text} is a product or a marginal.")
        factors += part.factors
    if not factors:
        raise FormulaError(f"{who} takes at least one {word}; got none.")
    first = factors[0]
    for factor in factors:
        if factor.var != first.var:
            raise FormulaError(f"{who}: all {word}s are over the same variable; {first} and {factor} are not. Rename one with replace_var.")
    return tuple(factors)


def inputs_of(factors: Iterable[Factor]) -> tuple[str, ...]:
    """The variables that any of them depends on, in order."""
    return tuple(dict.fromkeys(v for f in factors for v in f.cond_var))


def depending_only_on(names: tuple[str, ...], parts: Sequence[Factor], who: str) -> tuple[int, ...]:
    """The numbers of the parts that depend on nothing but these variables.

    Raises:
        FormulaError: for a name on which no part depends, or none of those that are left.
    """
    options = inputs_of(parts)
    for v in names:
        if v not in options:
            raise FormulaError(f"{who}: no expert depends on {v!r}; they depend on {', '.join(options)}.{suggest(v, options)}")
    kept = tuple(i for i, p in enumerate(parts) if set(p.cond_var).issubset(names))
    lost = [v for v in names if v not in inputs_of(parts[i] for i in kept)]
    if lost or not names:
        why = f"each that depends on {lost[0]} depends on more than {', '.join(names)}" if lost else "name a variable"
        raise FormulaError(f"{who}: given_only({', '.join(map(repr, names))}) leaves no expert; {why}.")
    return kept


def renamed(parts: Iterable[Factor], own: Leaf, factor: Factor) -> list[Factor]:
    """The parts of a leaf under the names that `factor` knows it by."""
    names = dict(zip((*own.var, *own.cond_var), (*factor.var, *factor.cond_var)))
    return [Factor(p.dist, tuple(names[v] for v in p.var), tuple(names[v] for v in p.cond_var)) for p in parts]


def ask(scope: Scope, parts: Sequence[Factor], own: Leaf, factor: Factor, inputs: tuple[Binding, ...]) -> list[Any]:
    """The parts given their inputs, which must be of one batch."""
    common_sizes(union((), *[b.dims for b in inputs]), inputs, factor.cond_var, factor)
    return [scope.conditional(p) for p in renamed(parts, own, factor)]


def batch_of(dims: Dims, sizes: Iterable[int]) -> int | None:
    """The size of the batch, if there is one."""
    return dict(zip(dims, sizes)).get(BATCH)


def common_features(known: Sequence[tuple[object, Shape]], who: object, word: str) -> Shape:
    """The features that all have, where they are known.

    Raises:
        ShapeError: if two differ.
    """
    for part, shape in known[1:]:
        first, features = known[0]
        if shape != features:
            raise ShapeError(f"{who}: the {word}s must have the same features, but {first} has {features} and {part} has {shape}.")
    return known[0][1] if known else ()


def declared_features(parts: Iterable[Factor]) -> list[tuple[object, Shape]]:
    """Those that are known before an evaluation."""
    found = [(p, getattr(p.dist, "features_shape", None) or getattr(p.dist, "constant_features", None)) for p in parts]
    return [(part, shape) for part, shape in found if shape]


def known_features(givens: Iterable[Given]) -> list[tuple[object, Shape]]:
    """Those of an evaluation; a number without a batch is one for all features."""
    return [(g.factor, g.features) for g in givens if g.features or g.dims]


def check_kinds(givens: Iterable[Given], who: object) -> None:
    """Raises an error unless the parameters are of one dtype and on one device; those of rank 0 fit any."""
    tensors = [(g, g.like) for g in givens if g.like.ndim]
    for given, t in tensors[1:]:
        first, like = tensors[0]
        if t.dtype != like.dtype or t.device != like.device:
            raise KindError(
                f"{who}: {first.factor} is {like.dtype} on {like.device}, {given.factor} is {t.dtype} on {t.device}. "
                "Convert one with .to()."
            )
