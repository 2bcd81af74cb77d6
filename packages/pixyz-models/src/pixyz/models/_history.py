"""What a training has come to, epoch by epoch."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class History(Mapping[str, list[float]]):
    """What `Model.fit` returns: curves by name, a number for each epoch, for `plot_history`. It prints as a table.

    Attributes:
        train: the mean loss of each epoch, while its weights were changing.
        validation: the test loss of the data given as `validation`, after each epoch.
        discriminator: of a game, the mean loss of its discriminators in each epoch.
        terms: of the same data, every term of the test loss, by its text.
        checkpoint: the last file that was saved, if one was.
        stopped_early: whether `patience` has ended the training.
    """

    train: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)
    discriminator: list[float] = field(default_factory=list)
    terms: dict[str, list[float]] = field(default_factory=dict)
    checkpoint: Path | None = None
    stopped_early: bool = False

    @property
    def best_epoch(self) -> int | None:
        """The number, from 1, of the epoch with the least validation loss."""
        return None if not self.validation else 1 + min(range(len(self.validation)), key=self.validation.__getitem__)

    def _curves(self) -> dict[str, list[float]]:
        curves = {"train": self.train, "validation": self.validation, "discriminator": self.discriminator}
        return {name: numbers for name, numbers in curves.items() if numbers}

    def __getitem__(self, name: str) -> list[float]:
        return self._curves()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._curves())

    def __len__(self) -> int:
        return len(self._curves())

    def __str__(self) -> str:
        curves = self._curves()
        rows = [["epoch", *curves]]
        rows += [[str(i), *[f"{number:.6g}" for number in numbers]] for i, numbers in enumerate(zip(*curves.values()), 1)]
        widths = [max(map(len, column)) for column in zip(*rows)]
        return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths)) for row in rows)
