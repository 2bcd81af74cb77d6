"""The distribution of a data set."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from pixyz.core import (
    Binding,
    Checks,
    Dims,
    Factor,
    FormulaError,
    IntractableError,
    KindError,
    Leaf,
    ParameterError,
    Scope,
    ShapeError,
    Term,
    need_dense,
)


class Empirical(Leaf):
    r"""The distribution of a data set: each of its rows is as likely as any other.

    $$p(x) = \frac{1}{N} \sum_{n=1}^N \delta(x - x_n)$$

    It is drawn from with replacement; variables of one data set are drawn from one row. It has no density.

    Args:
        text: the distribution as papers write it, `"p(x,y)"`, in place of `var` and `name`.
        var: the variables.
        name: the letter before the brackets.
        data: for each variable its rows, `(N, *features)`, of any dtype, copied; an `nn.Parameter` is kept and trained.

    Raises:
        FormulaError: if it has conditioning variables.
        ParameterError: unless there are rows for each variable and nothing else.
        ShapeError: for no rows, or different numbers of them.
        KindError: for data that are no tensor.

    Examples:
        >>> data = Empirical("p_data(x,y)", x=torch.tensor([[0.0], [4.0]]), y=torch.tensor([0, 1]))
        >>> sample = data.sample(batch_size=5)
        >>> torch.equal(sample["x"].squeeze(-1), 4.0 * sample["y"])
        True
        >>> Empirical("p_data(x)", x=torch.tensor([[0.0], [4.0]])).variance()
        tensor([[4.]])
    """

    distribution_name = "Empirical"
    # A row does not depend on which one is drawn, so its gradient, if it is trained, goes through the draw.
    has_rsample = True

    def __init__(
        self, text: str | None = None, /, *, var: Iterable[str] | None = None, name: str | None = None, **data: Tensor | nn.Parameter
    ) -> None:
        conditions = data.pop("cond_var", None)
        super().__init__(text, var=var, cond_var=conditions if text is None else None, name=name)  # type: ignore[arg-type]
        if self.cond_var:
            raise FormulaError(
                f"{self.prob_text}: a data set depends on nothing; write {self.name}({','.join((*self.var, *self.cond_var))}), "
                f"with rows for {', '.join(self.cond_var)} as well, or subclass a family with a network."
            )
        lacking, unknown = [v for v in self.var if v not in data], [k for k in data if k not in self.var]
        if lacking or unknown:
            came = ", ".join(data) or "nothing"
            raise ParameterError(f"{self.prob_text}: an Empirical takes rows for {', '.join(self.var)}, (N, *features) each; got {came}.")
        for v in self.var:
            self._keep(v, data[v])
        self.constant_names = tuple([f"rows_{v}" for v in self.var])
        counts = {v: len(rows) for v, rows in zip(self.var, self.rows)}
        if len(set(counts.values())) > 1:
            told = ", ".join(f"{v} has {n} rows" for v, n in counts.items())
            raise ShapeError(f"{self.prob_text}: {told}; rows that belong together are equally many.")

    def _keep(self, v: str, rows: Any) -> None:
        if not isinstance(rows, Tensor):
            raise KindError(f"{self.prob_text}: the rows of {v} must be a tensor; got a {type(rows).__name__}. Use torch.as_tensor.")
        need_dense(rows, self.prob_text, f"the rows of {v}")
        if rows.ndim == 0 or len(rows) == 0:
            raise ShapeError(f"{self.prob_text}: the rows of {v} have shape {tuple(rows.shape)}; they are (N, *features), N at least 1.")
        # A prefix, for a variable may be called like something that a module has already.
        if isinstance(rows, nn.Parameter):
            self.register_parameter(f"rows_{v}", rows)
        else:
            self.register_buffer(f"rows_{v}", rows.clone())

    @property
    def rows(self) -> list[Tensor]:
        """For each variable, `(N, *features)`."""
        return [getattr(self, f"rows_{v}") for v in self.var]

    def extra_repr(self) -> str:
        """The shapes of the data, for `print`."""
        return ", ".join(f"{v}=tensor{tuple(rows.shape)}" for v, rows in zip(self.var, self.rows))

    def conditional(self, scope: Scope, factor: Factor, inputs: tuple[Binding, ...]) -> "Rows":
        return Rows(self.rows)


class Rows:
    """The rows of an `Empirical`, in one evaluation."""

    dims: Dims = ()
    batch: int | None = None

    def __init__(self, rows: list[Tensor]) -> None:
        self.rows = rows

    def draw(self, dims: Dims, sizes: list[int], *, pathwise: bool) -> list[Term]:
        """The same rows of all variables, `(*dims, *features)`."""
        chosen = torch.randint(len(self.rows[0]), sizes, device=self.rows[0].device)
        return [Term(rows[chosen] if pathwise else rows.detach()[chosen], dims) for rows in self.rows]

    def log_prob(self, values: tuple[Binding, ...], factor: Factor, checks: Checks) -> Term:
        """There is none.

        Raises:
            IntractableError: always.
        """
        raise IntractableError(
            f"log {factor}: a data set has no density, its rows are points. Sample it, or take an expectation over it: "
            f"f.expectation({factor.dist.name}) for a formula f of {', '.join(factor.var)}."
        )

    def statistic(self, what: str) -> Term:
        """The exact mean or variance of the rows."""
        if len(self.rows) > 1 or what not in ("mean", "variance"):
            raise NotImplementedError
        rows = self.rows[0]
        if not (rows.is_floating_point() or rows.is_complex()):
            rows = rows.to(torch.get_default_dtype())
        return Term(rows.mean(0) if what == "mean" else rows.var(0, correction=0), ())
