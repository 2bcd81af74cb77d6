"""A picture of a latent space."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pixyz.core import FormulaError, ShapeError

from ._after_training import inference
from ._figures import new_figure, saved

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ._model import Model

_CLASSES = 20  # colours that can be told apart


def plot_latent(
    model: "Model",
    values: Mapping[str, Any],
    *,
    var: str | None = None,
    labels: Tensor | Sequence[float] | None = None,
    path: str | Path | None = None,
) -> "Figure":
    """Where the data are in the latent space: the means of q(z|x), or their first two principal components.

    Args:
        model: one that knows its q.
        values: `(batch, *features)` for every variable on which q depends.
        var: the latent variable, needed where q draws several.
        labels: of the data, for the colours: `(batch,)`, whole numbers for classes, others for a scale; or `(batch, classes)`, one-hot.
        path: as in `plot_samples`.

    Raises:
        FormulaError: if q draws several variables.
        ShapeError: for a latent variable of one number, or labels of another length.
        ImportError: without matplotlib.
    """
    figure = new_figure()
    z, names = _plane(*_latent_means(model, values, var))
    axes = figure.subplots()
    if labels is None:
        axes.scatter(z[:, 0], z[:, 1], s=8, linewidths=0)
    else:
        _coloured(axes, z, _numbers(labels, len(z)))
    axes.set(xlabel=names[0], ylabel=names[1])
    axes.set_aspect("equal", adjustable="datalim")
    figure.set_size_inches(5.5, 5)
    return saved(figure, path)


def _latent_means(model: "Model", values: Mapping[str, Any], var: str | None) -> tuple[Tensor, str]:
    q = inference(model, "plot_latent")
    if var is None and len(q.var) > 1:
        raise FormulaError(f"plot_latent: {q.prob_text} draws {' and '.join(q.var)}. Say which to show, like var={q.var[0]!r}.")
    var = next(iter(q.var)) if var is None else var
    return model.infer(values, mean_of=var)[var].cpu().flatten(1).double(), var


def _plane(z: Tensor, var: str) -> tuple[Tensor, tuple[str, str]]:
    """The points, `(N, 2)`, and what their coordinates are."""
    if z.shape[1] < 2:
        raise ShapeError(f"plot_latent: {var} is one number, which has no plane. Draw a histogram of model.infer(values)[{var!r}].")
    if z.shape[1] == 2:
        return z, (f"{var}, first number", f"{var}, second number")
    centred = z - z.mean(0)
    _, lengths, directions = torch.linalg.svd(centred, full_matrices=False)
    shares = lengths.square() / lengths.square().sum()
    first, second = (f"{word} principal component of {var} ({share:.0%})" for word, share in zip(("first", "second"), shares.tolist()))
    return centred @ directions[:2].T, (first, second)


def _numbers(labels: Tensor | Sequence[float], count: int) -> Tensor:
    """One number for each datum."""
    numbers = torch.as_tensor(labels).detach().cpu()
    numbers = numbers.argmax(-1) if numbers.ndim == 2 and numbers.shape[1] > 1 else numbers.flatten()
    if len(numbers) != count:
        raise ShapeError(f"plot_latent: there are {count} data, but {len(numbers)} labels.")
    return numbers


def _coloured(axes: "Axes", z: Tensor, numbers: Tensor) -> None:
    from matplotlib import colormaps

    figure: Any = axes.figure
    classes = numbers.unique().tolist()
    if numbers.is_floating_point() or len(classes) > _CLASSES:
        figure.colorbar(axes.scatter(z[:, 0], z[:, 1], c=numbers, s=8, linewidths=0))
        return
    colours = colormaps["tab10" if len(classes) <= 10 else "tab20"]
    for i, k in enumerate(classes):
        axes.scatter(z[numbers == k, 0], z[numbers == k, 1], s=8, linewidths=0, color=colours(i), label=str(k))
    axes.legend(frameon=False, markerscale=2, loc="center left", bbox_to_anchor=(1, 0.5))
