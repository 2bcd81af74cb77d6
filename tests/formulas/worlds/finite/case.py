"""A formula over finite variables."""

from dataclasses import dataclass, replace

from torch import nn

from ...case import Built, Case, OutsideError, by_autograd
from .formula import KINDS, REAL, Renamed, Term, letter_of, names_in, parts_of
from .library import Library, values_of
from .tables import Tables, mask_given, numbers_of, state_given

SECOND = "_u"
"""What the names of the second batch end with."""


@dataclass(frozen=True)
class Finite(Case):
    """An objective over finite variables.

    Args:
        seed: of all numbers.
        kinds: for each letter, the kind of that variable.
        batch: how many data there are.
        second: how many data with the names `x_u` there are.
        loss: the objective.
    """

    seed: int
    kinds: tuple[tuple[str, str], ...]
    batch: int
    second: int
    loss: Term

    def at(self, seed):
        """With two data, and all variables of four states but the index of a mixture."""
        kinds = tuple((v, "two" if v == "k" else "coins") for v, _ in self.kinds)
        return replace(self, seed=seed, kinds=kinds, batch=2, second=2)

    def kind(self, name):
        return dict(self.kinds)[letter_of(name)]

    def states(self, name):
        return KINDS[self.kind(name)][1]

    def batch_of(self, name):
        return self.second if name.endswith(SECOND) else self.batch

    def batch_of_term(self, term):
        names = {n for part in parts_of(term) if isinstance(part, Renamed) for _, n in part.names} | names_in(term)
        return self.second if any(n.endswith(SECOND) for n in names) else self.batch

    def build(self, copies=1):
        numbers = numbers_of(self)
        given = {name: number.requires_grad_() for name, number in numbers.items() if letter_of(name) == REAL or name == "beta"}
        leaves = {name: given.get(name, number if name in given else nn.Parameter(number)) for name, number in numbers.items()}
        loss = Library(self, leaves).loss(self.loss)
        values = {name: value for name, value in given.items() if name in loss.input_var}
        for name in sorted(names_in(self.loss)):
            if name in loss.input_var:
                values[name] = values_of(self.kind(name))[state_given(self, name)]
        for part in parts_of(self.loss):
            if isinstance(part, Term) and part.op == "masked":
                values["m"] = mask_given(self, part.parts[0].var)
        options = {} if any(getattr(v, "ndim", 0) for v in values.values()) else {"batch_size": self.batch}
        return Built(loss, values, leaves, options)

    def truth(self):
        numbers = numbers_of(self)
        largest = [1.0]

        def value(**leaves):
            tables = Tables(self, dict(zip(numbers, leaves.values())))
            found = tables.value(self.loss)
            largest[0] = tables.largest
            return found

        named = {f"v{i}": number for i, number in enumerate(numbers.values())}
        truth = by_autograd(value, named)
        gradients = dict(zip(numbers, truth.gradients.values()))
        if not all(g.isfinite().all() and g.abs().max() < 1e6 for g in gradients.values() if g.numel()):
            raise OutsideError
        return truth._replace(gradients=gradients, scale=largest[0])
