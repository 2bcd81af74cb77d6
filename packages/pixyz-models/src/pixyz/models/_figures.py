"""Figures of matplotlib, which is imported when one is asked for; they are saved where `path` says, and nowhere else."""

from collections.abc import Iterable, Mapping
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from pixyz.core import KindError

from ._atomic import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure() -> "Figure":
    """An empty one. It is no pyplot figure, so nothing has to be closed."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('Pictures are drawn with matplotlib, which is not here: pip install "pixyz-models[plot]".') from error
    return Figure(layout="constrained")


def saved(figure: "Figure", path: str | Path | None) -> "Figure":
    """The figure, which is also written to the file, whole or not at all; matplotlib's default suffix stands where there is none."""
    if path is not None:
        from matplotlib import rcParams

        target = Path(path)
        kind = target.suffix[1:] or rcParams["savefig.format"]
        buffer = BytesIO()
        figure.savefig(buffer, format=kind, dpi=150)
        write_atomically(target if target.suffix else target.with_suffix(f".{kind}"), [buffer.getbuffer()])
    return figure


def plot_history(
    history: Mapping[str, Iterable[float]] | Iterable[float], *, xlabel: str = "epoch", ylabel: str = "", path: str | Path | None = None
) -> "Figure":
    """Curves of numbers that were kept while training, the first at 1.

    Args:
        history: the numbers, or several lists of them by name.
        xlabel: what is counted.
        ylabel: what the numbers are, with their unit.
        path: as in `plot_samples`.

    Raises:
        KindError: if there is nothing in it.
        ImportError: without matplotlib.
    """
    figure = new_figure()
    curves = history if isinstance(history, Mapping) else {"": history}
    kept = {name: [float(number) for number in numbers] for name, numbers in curves.items()}
    if not any(kept.values()):
        raise KindError("plot_history: there are no numbers. Keep them while you train: history.append(model.train(values).item()).")
    axes = figure.subplots()
    for name, numbers in kept.items():
        axes.plot(range(1, len(numbers) + 1), numbers, label=name)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.spines[["top", "right"]].set_visible(False)
    if isinstance(history, Mapping):
        axes.legend(frameon=False)
    figure.set_size_inches(6, 3.6)
    return saved(figure, path)
