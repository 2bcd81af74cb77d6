"""What a model is, in a few lines."""

from typing import TYPE_CHECKING

from torch import nn

from ._optimisation import Optimizer
from ._schedules import said

if TYPE_CHECKING:
    from ._model import Model


def summary(model: "Model", choices: list[tuple[Optimizer, dict[str, nn.Module]]]) -> str:
    """The loss, what is trained, by what, and how.

    Args:
        model: the model.
        choices: each optimiser with its leaves by text.
    """
    trained = []
    for _, leaves in choices:
        for text, leaf in leaves.items():
            count = sum(w.numel() for w in leaf.parameters())
            if count:
                trained.append(f"{text}: {count:,} parameter{'s' * (count > 1)}")
    by = [str(choice) for choice, _ in choices]
    if len(choices) > 1:
        by = [f"{name} for {', '.join(leaves)}" for name, (_, leaves) in zip(by, choices, strict=True)]
    gradients = []
    if model.accumulate > 1:
        gradients.append(f"averaged over {model.accumulate} calls")
    clip = {"norm": model.clip_grad_norm, "value": model.clip_grad_value}
    clipped = [f"{k} {v}" for k, v in clip.items() if v is not None]
    if clipped:
        gradients.append(f"clipped at {' and '.join(clipped)}")
    below = "\n              "
    rows = {
        "plays" if model.loss.is_game else "minimises": str(model.loss),
        "tests": str(model.test_loss) if model.test_loss is not model.loss else "",
        "trains": below.join(trained),
        "optimiser": below.join(by),
        "turns": turns(model),
        "schedules": below.join(f"{v}: {said(schedule)}" for v, schedule in model.schedules.items()),
        "gradients": ", ".join(gradients),
        "average": f"of the weights, decay {model.ema.decay}" if model.ema is not None else "",
        "compiled": "the loss and the step" if model.compiled else "",
    }
    return "\n  ".join([type(model).__name__, *[f"{key + ':':<11} {text}" for key, text in rows.items() if text]])


def turns(model: "Model") -> str:
    """How the sides of a game alternate, if not simply one after the other."""
    said = ["at once"] if model.at_once else []
    if model.n_critic > 1:
        said.append(f"{model.n_critic} of the discriminators to one of the others")
    return ", ".join(said)
