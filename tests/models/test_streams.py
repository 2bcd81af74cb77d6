"""Streams, which do not say how many data they have: trained on for whole epochs, validated on, resumed, evaluated."""

import re

import pytest
import torch
from torch import nn, optim
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset, SequentialSampler

from pixyz.core import KindError, ShapeError
from pixyz.distributions import Normal
from pixyz.models import ML

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers")
X = torch.arange(22.0).reshape(11, 2) / 10


class Stream(IterableDataset):
    def __init__(self, rows=X):
        self.rows = rows

    def __iter__(self):
        yield from [{"x": row} for row in self.rows]


class Endless(Stream):
    """It has a length of which nothing is known."""

    def __len__(self):
        raise NotImplementedError


class Pairs(BatchSampler):
    """Batches of a sampler without a length."""

    def __init__(self):
        super().__init__(SequentialSampler(X), 4, drop_last=False)

    __len__ = None


class Mapped(Dataset):
    def __getitem__(self, i):
        return {"x": X[i]}


class Sized(Mapped):
    def __len__(self):
        return len(X)


def model():
    p = Normal("p(x)", loc=nn.Parameter(torch.zeros(2)), scale=1.0)
    return ML(p, optimizer=optim.Adam, optimizer_params={"lr": 0.1}, accumulate=1)


def by_hand(epochs):
    found = model()
    for _ in range(epochs):
        for part in X.split(4):
            found.train({"x": part})
    return found


STREAMS = {
    "in a loader": lambda: DataLoader(Stream(), batch_size=4),
    "in a loader, of unknown length": lambda: DataLoader(Endless(), batch_size=4),
    "of batches": lambda: Stream(X.split(4)),
    "of batches, of unknown length": lambda: Endless(X.split(4)),
    "a sampler without a length": lambda: DataLoader(Sized(), batch_sampler=Pairs()),
    "a list": lambda: [{"x": part} for part in X.split(4)],
}


@pytest.mark.parametrize("stream", STREAMS)
def test_a_stream_trains_as_its_batches_do(stream):
    found = model()
    history = found.fit(STREAMS[stream](), epochs=2, validation=STREAMS[stream](), progress=False)
    assert torch.equal(found.p.loc, by_hand(2).p.loc)
    assert len(history.train) == len(history.validation) == 2
    assert found.step_count == 6
    assert history.validation[-1] == pytest.approx(found.test({"x": X}).item(), rel=1e-6)
    assert found.evaluate(STREAMS[stream]()).loss == pytest.approx(history.validation[-1], rel=1e-6)
    assert found.log_likelihood(STREAMS[stream]()).mean == pytest.approx(-history.validation[-1], rel=1e-6)


def test_a_bar_without_an_end_is_shown(capsys):
    model().fit(DataLoader(Stream(), batch_size=4), epochs=1, progress=True)
    shown = capsys.readouterr()
    assert re.search(r"\b3/(\?|--)", shown.out + shown.err)  # tqdm's bar, or that of rich


@pytest.mark.parametrize("step", [2, 3, 4])
def test_a_stream_goes_on_where_it_was(step, tmp_path):
    def fit(found, **options):
        return found.fit(DataLoader(Stream(), batch_size=4), epochs=2, progress=False, **options)

    whole = model()
    fit(whole, save=tmp_path / "step_{step}", save_every=1, keep=None)
    again = model()
    history = fit(again, resume=tmp_path / f"step_{step}")
    assert again.step_count == 6
    assert torch.equal(again.p.loc, whole.p.loc)
    assert len(history.train) == 2


def test_what_has_no_data_or_no_order_is_an_error():
    with pytest.raises(ShapeError, match=r"ML\.fit: there are no data"):
        model().fit(DataLoader(Stream(X[:0]), batch_size=4), epochs=1, progress=False)
    for data in (Mapped(), DataLoader(Mapped(), batch_size=4)):
        with pytest.raises(KindError, match=r"ML\.fit: the Mapped does not say how many data it has.* Give it __len__, or make it an Iter"):
            model().fit(data, epochs=1, progress=False)
