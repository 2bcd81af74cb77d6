"""What a model consists of, as a checkpoint names it: its formula, its tensors, its optimisers."""

from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.nn.parameter import is_lazy

from pixyz.core import KindError, ParameterError

if TYPE_CHECKING:
    from ._model import Model


class Weights:
    """The parameters and buffers of a model by name: `q(z|x).fc1.weight`.

    Args:
        model: the model.

    Attributes:
        tensors: each tensor once, under the first of its names.
        tied: the other names of those that have several, with the first.
        constants: the names of what was given as a constant, a number or a tensor, and is not trained.

    Raises:
        ParameterError: for a parameter whose shape is not known yet.
        KindError: for a module with a state that is no tensor.
    """

    def __init__(self, model: "Model") -> None:
        self.tensors: dict[str, Tensor] = {}
        self.tied: dict[str, str] = {}
        found = dict(model.loss.state_dict(keep_vars=True))
        standing = {*model.loss.modules()}
        for leaf in model.distributions:  # one that is trained by a loss of its own, such as a critic
            if leaf not in standing:
                found |= leaf.state_dict(keep_vars=True, prefix=f"{leaf.leaf_text}.")
        first: dict[Tensor, str] = {}
        for name, tensor in found.items():
            if not isinstance(tensor, Tensor):
                raise KindError(
                    f"{name} is a {type(tensor).__name__}; a checkpoint holds tensors. Leave get_extra_state out of the module."
                )
            if is_lazy(tensor):
                raise ParameterError(
                    f"{name} has no shape yet. Evaluate {model.loss} once, on any batch, before its model is saved or loaded."
                )
            if first.setdefault(tensor, name) == name:
                self.tensors[name] = tensor
            else:
                self.tied[name] = first[tensor]
        self.names = first
        given = {
            module._buffers.get(name)
            for owner in (model.loss, *model.distributions)
            for module in owner.modules()
            for name in getattr(module, "constant_names", ())
        }
        self.constants = {name for name, tensor in self.tensors.items() if tensor in given and not tensor.requires_grad}

    def trained_by(self, groups: list[dict[str, Any]]) -> list[list[str]]:
        """The names of the parameters of an optimiser's groups."""
        return [[self.names.get(w, "a parameter that is not in the model") for w in group["params"]] for group in groups]


def signature(model: "Model", weights: Weights) -> str:
    """The formula and what is stored with it, for who reads the file."""
    lines = [str(model.loss)]
    lines += [f"{name}: {t.dtype} {tuple(t.shape)}".replace("torch.", "") for name, t in weights.tensors.items()]
    lines += [f"{name}: the same as {first}" for name, first in weights.tied.items()]
    for optimizer in model.optimizers:
        count = sum(len(group["params"]) for group in optimizer.param_groups)
        lines.append(f"{type(optimizer).__name__} of {count} parameters")
    lines += [type(scheduler).__name__ for scheduler in model.schedulers]
    return "\n".join(lines)
