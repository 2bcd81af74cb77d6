"""Pictures of what a model makes and makes again."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from pixyz.core import FormulaError, MissingVariableError

from ._after_training import generative
from ._figures import new_figure, saved
from ._images import as_images, limits, tiled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ._model import Model


def plot_samples(
    model: "Model",
    batch_size: int | None = None,
    *,
    var: str | None = None,
    given: Mapping[str, Any] | None = None,
    columns: int = 10,
    image_shape: Sequence[int] | None = None,
    cmap: str = "gray",
    path: str | Path | None = None,
) -> "Figure":
    """Images that the model makes: the means E[x|z] of draws z from the prior, row by row.

    Args:
        model: one that knows its p.
        batch_size: how many; as many as are given, or 50.
        var: the variable to show, needed where p has several that q does not draw.
        given: values of conditioning variables, as for `Model.sample`.
        columns: how many images are in a row.
        image_shape: `(height, width)`, or `(1 or 3, height, width)`; found from the features where they are an image or a square.
        cmap: matplotlib's colours for grey images; `"gray_r"` is ink on paper.
        path: where to save the figure; the suffix says as what.

    Raises:
        FormulaError: if it is not clear what to show.
        ShapeError: if that is no image.
        ImportError: without matplotlib.
    """
    figure = new_figure()
    var = _to_show(model, var, given or {}, "plot_samples")
    drawn = model.sample(50 if batch_size is None and not given else batch_size, given=given, mean_of=var)
    images = as_images(drawn[var], image_shape, f"plot_samples: {var}")
    columns = min(columns, len(images))
    figure.set_size_inches(_inches(images, columns, 1))
    _show(figure.subplots(), images, columns, limits(images), cmap)
    return saved(figure, path)


def plot_reconstructions(
    model: "Model",
    values: Mapping[str, Any],
    *,
    var: str | None = None,
    columns: int = 10,
    image_shape: Sequence[int] | None = None,
    cmap: str = "gray",
    path: str | Path | None = None,
) -> "Figure":
    """The first images of the data, and below each what the model makes of it: E[x|z] with z from q(z|x).

    Args:
        model: one that knows its p and its q.
        values: `(batch, *features)` for every variable on which q and p depend.
        var: the variable to show, needed where p has several that q does not draw.
        columns: how many data are shown.
        image_shape: as in `plot_samples`.
        cmap: as in `plot_samples`.
        path: as in `plot_samples`.

    Raises:
        FormulaError, ShapeError, ImportError: as `plot_samples`.
        MissingVariableError: if the variable to show has no value.
    """
    figure = new_figure()
    var = _to_show(model, var, {}, "plot_reconstructions")
    if var not in values:
        raise MissingVariableError(f"plot_reconstructions: {var} has no value to show beside its reconstruction.")
    shown = {v: t[:columns] if isinstance(t, Tensor) and t.ndim else t for v, t in values.items()}
    rows = {"data": shown[var], "reconstructions": model.reconstruct(shown)[var]}
    images = {name: as_images(x, image_shape, f"plot_reconstructions: {var}") for name, x in rows.items()}
    data = images["data"]
    width, height = _inches(data, len(data), 1)
    figure.set_size_inches(width, 2 * (height + 0.3))
    for axes, (name, row) in zip(figure.subplots(2), images.items()):
        _show(axes, row, len(row), limits(data), cmap)
        axes.set_title(name, loc="left", fontsize=10)
    return saved(figure, path)


def _to_show(model: "Model", var: str | None, given: Mapping[str, Any], who: str) -> str:
    p = generative(model, who)
    drawn = () if model.q is None else model.q.var
    known = [v for v in p.var if v not in drawn and v not in given]
    if var is None and len(known) != 1:
        choice = f"Say which, like var={known[0]!r}." if known else "Leave a value out, to have it drawn."
        raise FormulaError(f"{who}: {p.prob_text} has {' and '.join(known) or 'nothing'} to show. {choice}")
    if var is not None and var not in known:
        raise FormulaError(f"{who}: {p.prob_text} has no {var} to show; it has {', '.join(known) or 'nothing'}.")
    return known[0] if var is None else var


def _inches(images: Tensor, columns: int, tile: float) -> tuple[float, float]:
    rows = -(-len(images) // columns)
    wide = tile * min(columns, 12 / tile)
    return wide, wide * rows * images.shape[1] / (columns * images.shape[2])


def _show(axes: "Axes", images: Tensor, columns: int, limits: tuple[float, float], cmap: str) -> None:
    from matplotlib import colormaps

    low, high = limits
    canvas = tiled(((images - low) / (high - low or 1)).clamp(0, 1), columns).numpy()
    if canvas.shape[-1] == 2:
        coloured = colormaps[cmap](canvas[..., 0])
        coloured[..., 3] = canvas[..., 1]
        canvas = coloured
    axes.imshow(canvas, interpolation="nearest")
    axes.axis("off")
