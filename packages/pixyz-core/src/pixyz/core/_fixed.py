"""Variables that have one value."""

from torch import Tensor

from ._bindings import Binding, Factor
from ._constants import WithConstants
from ._dims import Dims, Term, need_dense
from ._leaves import CONSTANT
from ._scope import Scope
from ._single import Single


class Fixed(WithConstants, Single):
    """A variable with one value, `(*features)`, for all data; made by `p.condition(x=value)`.

    Args:
        variable: its name.
        value: a number or a tensor; an `nn.Parameter` is trained.
    """

    distribution_name = "fixed"
    is_deterministic = True
    constant_names = ("value",)
    value: Tensor

    def __init__(self, variable: str, value: Tensor | float) -> None:
        super().__init__()
        self.var, self.cond_var, self.name = (variable,), (), variable
        self.leaf_text = CONSTANT
        if isinstance(value, Tensor):
            need_dense(value, "A fixed value", variable)
        self.give_constants({"value": value})

    def _architecture(self) -> tuple[str, str]:
        return "", ""

    @property
    def text(self) -> str:
        """The value, where it is short."""
        if self.value.is_meta:
            return f"tensor[{','.join(map(str, self.value.shape))}]"
        numbers = [f"{x:.6g}" for x in self.value.detach().flatten()[:5].tolist()]
        if self.value.ndim == 0:
            return numbers[0]
        return f"[{','.join(numbers)}]" if len(numbers) < 5 and self.value.ndim == 1 else f"tensor[{','.join(map(str, self.value.shape))}]"

    def conditional(self, scope: Scope, factor: Factor, inputs: tuple[Binding, ...]) -> "FixedGiven":
        return FixedGiven(self.value)


class FixedGiven:
    """The value, in one evaluation."""

    dims: Dims = ()
    batch: int | None = None

    def __init__(self, value: Tensor) -> None:
        self.value = value

    def draw(self, dims: Dims, sizes: list[int], *, pathwise: bool) -> list[Term]:
        """The value, whatever was asked for."""
        return [Term(self.value, ())]

    def statistic(self, what: str) -> Term:
        """The value, which is its own mean: nothing else is asked of what is hidden."""
        return Term(self.value, ())
