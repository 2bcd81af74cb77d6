"""Descriptions of models over finite variables, and of objectives over them.

A name is a letter, or a letter and a suffix: `z`, and `x_u` for the same variable of other data. The letter says what kind it is.
"""

from dataclasses import dataclass

KINDS = {"coin": ((1,), 2), "coins": ((2,), 4), "two": ((2,), 2), "three": ((3,), 3), "index": ((), 3), "pair": ((2, 2), 4)}
"""By kind, the features of a value and how many values there are: a Bernoulli of 1 and 2 features, a Categorical of 2 and 3 categories, a
CategoricalIndex, and two Categoricals of 2 categories as one."""

REAL = "u"
"""A given variable of two real numbers, of which the logits are linear functions."""


@dataclass(frozen=True)
class Leaf:
    """One conditional: a table of logits for each state of its parents, and a linear function of u where u is one of them."""

    letter: str
    var: str
    parents: tuple[str, ...]

    @property
    def text(self):
        return f"{self.letter}({self.var}|{','.join(self.parents)})"


@dataclass(frozen=True)
class Computed:
    """A variable that is a function of its parents."""

    var: str
    parents: tuple[str, ...]

    @property
    def text(self):
        return f"f({self.var}|{','.join(self.parents)})"


@dataclass(frozen=True)
class Product:
    parts: tuple


@dataclass(frozen=True)
class Marginal:
    of: object
    hidden: tuple[str, ...]


@dataclass(frozen=True)
class Posterior:
    of: object
    var: tuple[str, ...]


@dataclass(frozen=True)
class Quotient:
    """of / its marginal over the conditioning variables, or of / one of its factors."""

    of: object
    below: tuple[str, ...]


@dataclass(frozen=True)
class Renamed:
    of: object
    names: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Conditioned:
    of: object
    var: str
    state: int


@dataclass(frozen=True)
class Mixture:
    """Two conditionals of one variable, and a prior over which of them it is."""

    var: str
    parents: tuple[str, ...]
    index: str = "k"

    @property
    def parts(self):
        return tuple(Leaf(f"c{j}", self.var, self.parents) for j in range(2))

    @property
    def prior(self):
        return Leaf("c", self.index, ())


@dataclass(frozen=True)
class Term:
    """A loss: what is done, with what, and how."""

    op: str
    parts: tuple = ()
    options: tuple = ()


def variables(p):
    """What a distribution is over, in a set."""
    match p:
        case Leaf() | Computed() | Mixture():
            return {p.var}
        case Product():
            return set().union(*map(variables, p.parts))
        case Marginal():
            return variables(p.of) - {*p.hidden}
        case Posterior():
            return {*p.var}
        case Quotient():
            return variables(p.of) - {*p.below}
        case Renamed():
            names = dict(p.names)
            return {names.get(v, v) for v in variables(p.of)}
        case Conditioned():
            return variables(p.of) - {p.var}


def computed(p):
    """The computed variables of a distribution, those that it hides as well, parents first."""
    match p:
        case Computed():
            return [p]
        case Product():
            return [c for part in p.parts for c in computed(part)]
        case Marginal() | Posterior() | Quotient() | Conditioned():
            return computed(p.of)
        case Renamed():
            names = dict(p.names)
            return [Computed(names.get(c.var, c.var), tuple(names.get(v, v) for v in c.parents)) for c in computed(p.of)]
    return []


def parts_of(node):
    """All descriptions in one, itself included."""
    yield node
    if isinstance(node, Mixture):
        yield from (*node.parts, node.prior)
        return
    for value in vars(node).values() if hasattr(node, "__dataclass_fields__") else ():
        for part in value if isinstance(value, tuple) else (value,):
            if hasattr(part, "__dataclass_fields__"):
                yield from parts_of(part)


def names_in(node):
    """All names of finite variables in a description."""
    found = set()
    for part in parts_of(node):
        match part:
            case Leaf() | Computed():
                found |= {part.var, *part.parents}
            case Mixture():
                found |= {part.var, part.index, *part.parents}
            case Renamed():
                found |= {v for pair in part.names for v in pair}
            case Term(op="function"):
                found |= {*part.options[1:]}
    return {v for v in found if letter_of(v) != REAL}


def letter_of(name):
    return name.split("_")[0]
