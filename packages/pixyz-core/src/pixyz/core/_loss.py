"""What a loss is: a formula over distributions that has a value for given data."""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor, nn

from ._autocast import in_full_precision
from ._bindings import Factor
from ._checks import ON_HOST, Checks, checked, device_of
from ._depth import check_pickle, nested, too_deep
from ._dims import BATCH, Term, spread
from ._errors import BoundVariableError, KindError, ShapeError, function_of_game
from ._formula import Formula
from ._guards import CACHE_OF_ITS_OWN, what_may_change
from ._leaves import add_leaves, parts_in, parts_need_start, register_leaves
from ._printers import LATEX, TEXT, UNICODE, render
from ._quantities import Quantities, says
from ._scope import Scope, Watcher
from ._values import as_dict, as_tensors, open_scope, require, warn_of_slips, with_slopes

Operand: TypeAlias = "Loss | Tensor | float"
FACTS = ("stochastic", "mixes_batch", "is_biased", "compares_sets", "is_game")


class Loss(nn.Module):
    """An expression with one value per datum, `(batch,)`, until `.mean()` or `.sum()` make it a scalar.

    A subclass hands its parts to the constructor and writes `evaluate` and `formula`. What follows from the parts is derived from them;
    the arguments add to it. A loss or a distribution that a subclass keeps as an attribute, itself or in a tuple, a list or a dict, is a
    part too; if nothing is said to the constructor, its variables are those of the losses that it keeps. Parameters, buffers and
    networks of its own are attributes, as in every `nn.Module`.

    Args:
        parts: the distributions and losses it is made of; their leaves become the module tree.
        input_var: the variables that must be given; if not said, those of the parts.
        bound_var: the variables that it draws itself, which must not be given, beside those that its parts draw.
        optional_var: the variables that it computes itself, which may be given; if not said, those of the parts.
        per_datum: whether the value has a batch; if not said, whether that of a part has.
        stochastic: whether evaluating it may draw samples of which the value is a function; True if that of a part may.
        mixes_batch: whether a datum's value depends on the other data; True if that of a part does.
        biased: whether the mean of the value over its draws, or of its gradient, is another than the formula's, as of log E_q[f], of a
            quotient by an expectation, or of relaxed draws; True if that of a part is.
        compares_sets: whether it compares sets of draws, one for each datum, so that it has no value for a draw; True if a part does.

    Attributes:
        is_biased: as `biased` says; the bias of a function of an expectation vanishes as `num_samples` grows.
        is_game: whether there is a game in it, which one side minimises and another maximises.
        slope_var: the given variables along which it takes slopes, so that all of an evaluation is to be differentiable by them.
        depth: how many levels are nested within one another.

    Examples:
        >>> from pixyz.core import Term
        >>> from pixyz.distributions import Normal
        >>> class Doubled(Loss):
        ...     def __init__(self, loss):
        ...         super().__init__([loss])
        ...         self.inner = loss
        ...
        ...     @property
        ...     def formula(self):
        ...         return (2 * self.inner).formula
        ...
        ...     def evaluate(self, scope):
        ...         tensor, dims = scope.evaluate(self.inner)
        ...         return Term(2 * tensor, dims)
        >>> p = Normal("p(z)", loc=0.0, scale=1.0)
        >>> loss = Doubled(p.log_prob().expectation(p))
        >>> print(loss, loss.stochastic, list(loss.buffers()) == list(p.buffers()))
        2 * E_p(z)[log p(z)] True True
    """

    input_var: tuple[str, ...]
    bound_var: frozenset[str]
    optional_var: frozenset[str]
    per_datum: bool
    stochastic: bool = False
    mixes_batch: bool = False
    is_biased: bool = False
    compares_sets: bool = False
    is_game: bool = False
    depth: int
    _leaf_count: int
    _is_of_attributes: bool = False
    slope_var: frozenset[str] = frozenset()

    def __init__(
        self,
        parts: Iterable[nn.Module] = (),
        *,
        input_var: Iterable[str] | None = None,
        bound_var: Iterable[str] = (),
        optional_var: Iterable[str] | None = None,
        per_datum: bool | None = None,
        stochastic: bool = False,
        mixes_batch: bool = False,
        biased: bool = False,
        compares_sets: bool = False,
    ) -> None:
        kept = parts_in(tuple(self.__dict__.values())) if self.__dict__ else []
        super().__init__()
        parts = (*parts, *kept)
        losses = [part for part in parts if isinstance(part, Loss)]
        if not parts and input_var is None and per_datum is None:
            self.__dict__["_is_of_attributes"] = True
        if input_var is None:
            input_var = [v for part in parts for v in (part.input_var if isinstance(part, Loss) else getattr(part, "cond_var", ()))]
        # Straight into the dict: nn.Module's checks of what is set, on every node of a long formula, would cost more than the node.
        self.__dict__.update(
            input_var=tuple(dict.fromkeys(input_var)),
            bound_var=frozenset(bound_var).union(*[x.bound_var for x in losses]),
            optional_var=frozenset().union(*[x.optional_var for x in losses]) if optional_var is None else frozenset(optional_var),
            per_datum=(not losses or any([x.per_datum for x in losses])) if per_datum is None else per_datum,
        )
        added = {"stochastic": stochastic, "mixes_batch": mixes_batch, "is_biased": biased, "compares_sets": compares_sets}
        self.__dict__.update({fact: True for fact, said in added.items() if said})
        self.__dict__["depth"] = 1
        self._derive(losses)
        register_leaves(self, parts)
        self.__dict__["_leaf_count"] = len(self._modules)

    def _derive(self, losses: "list[Loss]") -> None:
        """Takes over what holds of a whole as soon as it holds of a part.

        Raises:
            FormulaError: for a game, in a loss that does not take it apart for its players.
        """
        if any([x.is_game for x in losses]) and type(self).each_term is Loss.each_term:
            raise function_of_game(f"{self._operation}({', '.join(map(str, losses))})")
        self.__dict__.update({fact: True for fact in FACTS if any([getattr(x, fact) for x in losses])})
        self.__dict__["depth"] = max([self.depth, *[1 + x.depth for x in losses]])
        slopes = [x.slope_var for x in losses if x.slope_var]
        if slopes:
            self.__dict__["slope_var"] = self.slope_var.union(*slopes).intersection(self.input_var)

    def __setattr__(self, name: str, value: Any) -> None:
        """Sets an attribute. A loss or a distribution becomes a part, whose leaves are registered; it is no child of this name."""
        if isinstance(value, (nn.Module, tuple, list, dict)) and "_modules" in self.__dict__:
            kept = parts_in(value)
            if kept:
                losses = [part for part in kept if isinstance(part, Loss)]
                if self._is_of_attributes and losses:
                    every = [part for part in parts_in({**self.__dict__, name: value}) if isinstance(part, Loss)]
                    self.__dict__.update(_names_of(every), per_datum=any([x.per_datum for x in every]))
                self._derive(losses)
                add_leaves(self, kept)
            if any([part is value for part in kept]):
                self.__dict__[name] = value
                return
        super().__setattr__(name, value)  # type: ignore[arg-type]
        own = self.__dict__.get("own")
        if own is not None and isinstance(value, nn.Module):
            own._modules[name] = value

    if TYPE_CHECKING:  # bound in `_algebra`, above which nothing here may reach

        def __add__(self, other: Operand) -> "Loss": ...
        def __radd__(self, other: Operand) -> "Loss": ...
        def __sub__(self, other: Operand) -> "Loss": ...
        def __rsub__(self, other: Operand) -> "Loss": ...
        def __mul__(self, other: Operand) -> "Loss": ...
        def __rmul__(self, other: Operand) -> "Loss": ...
        def __truediv__(self, other: Operand) -> "Loss": ...
        def __rtruediv__(self, other: Operand) -> "Loss": ...
        def __pow__(self, other: Operand) -> "Loss": ...
        def __rpow__(self, other: Operand) -> "Loss": ...
        def __neg__(self) -> "Loss": ...
        def __abs__(self) -> "Loss": ...
        def abs(self) -> "Loss": ...
        def exp(self) -> "Loss": ...
        def log(self) -> "Loss": ...
        def detach(self) -> "Loss": ...
        def clamp(self, min: "Operand | None" = None, max: "Operand | None" = None) -> "Loss": ...
        def mean(self) -> "Loss": ...
        def sum(self) -> "Loss": ...
        def expectation(self, q: nn.Module, **options: Any) -> "Loss": ...
        def explain(self, values: Mapping[str, Any] | None = None, *, gradients: bool = False, **options: Any) -> Any: ...
        def constant_var(self, values: Mapping[str, Tensor | float]) -> "Loss": ...
        def for_player(self, player: nn.Module) -> "Loss": ...
        @staticmethod
        def from_function(function: Callable[..., Tensor], name: str, *, var: Iterable[str]) -> "Loss": ...

    __array_ufunc__ = None  # numpy hands `np.float64(2) * loss` to us instead of making an array of it

    @abstractmethod
    def evaluate(self, scope: Scope) -> Term:
        """The value in a scope, `(*dims)`. Parts are evaluated through `scope.evaluate`."""

    @property
    @abstractmethod
    def formula(self) -> Formula:
        """The loss as a formula."""

    def estimate(
        self,
        values: Mapping[str, Any] | None = None,
        *,
        batch_size: int | None = None,
        sample_dims: Mapping[str, int] | None = None,
        validate: bool | Checks = True,
    ) -> Tensor:
        """The value for these data, ready for `backward()`: `(batch,)`, or `()` after `.mean()` or `.sum()`.

        Args:
            values: `(batch, *features)` for every variable in `input_var`; other keys are ignored.
            batch_size: the batch, for a formula whose variables are all drawn.
            sample_dims: how many sample dims stand before the batch of a variable.
            validate: whether values and parameters are checked against their supports, dtypes and devices; that reads numbers of
                tensors, which `torch.func.vmap` does not allow. On an accelerator the host reads once, when the loss has been evaluated,
                unless you give `DeferredChecks()`, of which you read the flags yourself. A compiled loss checks nothing.

        Raises:
            MissingVariableError: if a variable has no value.
            BoundVariableError: if a value is given for a variable that the formula draws itself.
            ShapeError, SupportError, KindError: if a value or a network does not fit.
        """
        values = as_dict(values)
        if self._compiled_call_impl is not None:
            return self(self._prepared(values), batch_size=batch_size, sample_dims=sample_dims)
        return self(values, batch_size=batch_size, sample_dims=sample_dims, validate=validate)

    def forward(
        self,
        values: Mapping[str, Any] | None = None,
        *,
        batch_size: int | None = None,
        sample_dims: Mapping[str, int] | None = None,
        watch: Watcher | None = None,
        starting: bool = False,
        validate: bool | Checks = True,
    ) -> Tensor:
        """The same as `estimate`. `watch` is told of every part and its term; `starting` is that of `initialize`."""
        values = as_dict(values)
        evaluate = partial(self._value, values, batch_size=batch_size, sample_dims=sample_dims, watch=watch, starting=starting)
        if torch.compiler.is_compiling():
            return evaluate()
        return checked(evaluate, validate, device_of(values, self), self)

    def _value(self, values: Any, **options: Any) -> Tensor:
        scope = self.open(values, **options)
        try:
            return self.for_each_datum(in_full_precision(scope.evaluate, self), scope.batch).tensor
        except RecursionError:
            raise too_deep("evaluated") from None

    def open(
        self,
        values: Mapping[str, Any] | None,
        *,
        batch_size: int | None = None,
        sample_dims: Mapping[str, int] | None = None,
        watch: Watcher | None = None,
        starting: bool = False,
        checks: Checks = ON_HOST,
    ) -> Scope:
        """The scope in which the loss has a value for these data; arguments and errors are those of `forward`."""
        given = as_dict(values)
        if type(given) is dict and not self.bound_var.isdisjoint(given):
            self._refuse_bound(given)
        if self.slope_var and torch.is_grad_enabled() and not torch.compiler.is_compiling():
            given = with_slopes(given, self.slope_var)
        return open_scope(
            given,
            needed=self.input_var,
            optional=self.optional_var,
            who=self,
            batch_size=batch_size,
            sample_dims=sample_dims,
            watch=watch,
            starting=starting,
            checks=checks,
        )

    @torch.no_grad()
    def initialize(
        self, values: Mapping[str, Any] | None = None, *, batch_size: int | None = None, sample_dims: Mapping[str, int] | None = None
    ) -> None:
        """Starts what starts from data, such as activation normalisation in a flow; what has started already is left alone.

        It is one evaluation, in which whatever waits for data is started by those that arrive where it stands: a prior by the draws of
        the posterior, a posterior by its noise. `Model.train` and `Model.fit` do so with their first batch.

        Args, Raises: as `estimate`.
        """
        if self.needs_start:
            self.forward(values, batch_size=batch_size, sample_dims=sample_dims, starting=True, validate=ON_HOST)

    @property
    def needs_start(self) -> bool:
        """Whether anything in it waits for data to start from; see `initialize`."""
        return parts_need_start(self)

    def for_each_datum(self, term: Term, batch: int) -> Term:
        """The value with its batch, which one that is the same for all data has not got yet."""
        if not self.per_datum or BATCH in term.dims:
            return term
        target = (*term.dims, BATCH)
        return Term(spread(term.tensor, term.dims, target, [*term.tensor.shape, batch]), target)

    @property
    def _operation(self) -> str:
        """What it does with its parts, for errors about them while it is built."""
        return type(self).__name__

    def each_term(self, change: Callable[["Loss"], "Loss"]) -> "Loss":
        """The loss with `change` applied to the terms that it is a sum of, where their coefficients are numbers or parameters.

        Terms that become the number 0 are left out.
        """
        return change(self)

    def signs(self) -> Mapping["Loss", int]:
        """The parts that are subtracted, with -1."""
        return {}

    def quantities(self, drawn: frozenset[Factor] = frozenset()) -> Quantities | None:
        """The terms that it is a sum of, each with its sign, where the expectations around it draw these factors; None if unknown."""
        return None

    @property
    def to_be_maximised(self) -> str | None:
        """`"a lower bound"` or `"a log-likelihood"`, of which more is better; None for what is neither, or not known to be."""
        return says(self.quantities())

    def compile(self, *args: Any, **options: Any) -> None:
        """`nn.Module.compile`: from now on `estimate` runs one graph. The arguments are those of `torch.compile`.

        The guards on the formula and on this library's own functions, which nothing changes, are left out: on a small model they cost
        as much as a layer or two. Those on values, parameters, networks and what users' own classes keep stay.

        Examples:
            >>> import torch
            >>> from pixyz.distributions import Normal
            >>> loss = Normal(var=["z"], loc=0.0, scale=1.0).log_prob()
            >>> loss.compile(fullgraph=True, backend="eager")
            >>> loss.estimate({"z": torch.zeros(2)})
            tensor([-0.9189, -0.9189])
        """
        if options.get("mode") is None:  # torch.compile takes a mode or options, not both
            options["options"] = {"guard_filter_fn": what_may_change, **(options.get("options") or {})}
        super().compile(*args, **{**CACHE_OF_ITS_OWN, **options})

    def eval(self, *values: Any, **more: Any) -> "Loss":
        """Evaluation mode, as for every `nn.Module`. For the value of the formula there is `estimate`."""
        if values or more:
            raise KindError(f"{self}.eval() takes no values: it sets evaluation mode, as for every nn.Module. Use estimate(values).")
        return super().eval()

    @nested("written")
    def latex(self) -> str:
        r"""The formula in LaTeX: `\mathbb{E}_{q(z|x)}\left[\log \frac{p(x,z)}{q(z|x)}\right]`."""
        return render(self.formula, LATEX)

    @nested("written")
    def unicode(self) -> str:
        """The formula in Unicode: `𝔼_q(z|x)[log p(x,z)/q(z|x)]`."""
        return render(self.formula, UNICODE)

    def _repr_latex_(self) -> str:
        return f"$${self.latex()}$$"

    def __deepcopy__(self, memo: dict[int, Any]) -> "Loss":
        """A copy, as of every `nn.Module`. The parts are copied first, so that one copy does not stand within another."""
        waiting = [self]
        while waiting:
            loss = waiting[-1]
            inner = [x for x in parts_in([*loss.__dict__.values()]) if isinstance(x, Loss) and id(x) not in memo]
            if inner:
                waiting += inner
            else:
                waiting.pop()
                if id(loss) not in memo:
                    loss._copy(memo)
        return memo[id(self)]

    def _copy(self, memo: dict[int, Any]) -> None:
        """Written out, for a long formula is mostly empty dicts: those of hooks, of each of its nodes."""
        new = self.__new__(type(self))
        memo[id(self)] = new
        state = self.__getstate__()
        new.__dict__.update({k: type(v)() if isinstance(v, dict) and not v else deepcopy(v, memo) for k, v in state.items()})

    def __reduce_ex__(self, protocol: Any) -> Any:
        """What pickle writes.

        Raises:
            FormulaError: for a formula that is nested too deeply for it.
        """
        check_pickle(self.depth)
        return super().__reduce_ex__(protocol)

    @nested("written")
    def __str__(self) -> str:
        return render(self.formula, TEXT)

    def __repr__(self) -> str:
        return str(self)

    def _prepared(self, values: Any) -> Any:
        """What is done outside of the graph: clear errors, and numbers as tensors, for each number would be a graph of its own."""
        require(values, self.input_var, self)
        names = [*self.input_var, *[v for v in self.optional_var if v in values]]
        if self.optional_var and len(values) > len(names):
            warn_of_slips(values, self.optional_var, self)
        if type(values) is dict and self.bound_var.isdisjoint(values) and all([type(values.get(v)) is Tensor for v in names]):
            return values
        self._refuse_bound(values)
        return {**values, **as_tensors(values, names, self)}

    def _refuse_bound(self, values: Mapping[str, Any]) -> None:
        bound = [v for v in values if v in self.bound_var and v not in self.input_var and v not in self.optional_var]
        if bound:
            v = bound[0]
            raise BoundVariableError(
                f"{self} draws {v} itself, so a value for {v} has no place in it. Leave {v} out of the values; "
                f"to score a {v} that you have, use the formula without the expectation over it."
            )


def _names_of(losses: list[Loss]) -> dict[str, Any]:
    """The variables of a loss that is made of these."""
    return {
        "input_var": tuple(dict.fromkeys([v for x in losses for v in x.input_var])),
        "bound_var": frozenset().union(*[x.bound_var for x in losses]),
        "optional_var": frozenset().union(*[x.optional_var for x in losses]),
    }


def need_scalar(loss: Loss, what: str) -> None:
    """An error if `loss` has a value per datum where `what` needs one number."""
    if loss.per_datum:
        raise ShapeError(f"{what} needs one number, but {loss} has one per datum, (batch,). Append .mean(), as in ({loss}).mean().")
