"""`fit` with batches on their way: the same training, which goes on from any step as if it had never stopped."""

import pytest
import torch
from lightning.pytorch.callbacks import LambdaCallback
from logged_streams import LoggedStreams
from torch import nn, optim
from torch.utils.data import DataLoader, Dataset, IterableDataset

from pixyz.core import KindError
from pixyz.cuda_utils import Prefetched
from pixyz.distributions import Normal
from pixyz.models import Model

ROWS = torch.randn(10, 3, generator=torch.Generator().manual_seed(0))


class Noisy(Dataset):
    """Rows with noise from torch's generator, which the training draws from too."""

    def __len__(self):
        return len(ROWS)

    def __getitem__(self, i):
        return {"x": ROWS[i] + 0.1 * torch.randn(3)}


class NoisyStream(IterableDataset):
    """Batches with noise from torch's generator."""

    def __iter__(self):
        for rows in ROWS.split(3):
            yield {"x": rows + 0.1 * torch.randn(rows.shape)}


class Pairs(Noisy):
    def __getitem__(self, i):
        return ROWS[i], torch.tensor(i)


LOADERS = {
    "shuffled": lambda: DataLoader(Noisy(), batch_size=3, shuffle=True),
    "in order, without the last": lambda: DataLoader(Noisy(), batch_size=3, drop_last=True),
    "a stream": lambda: DataLoader(NoisyStream(), batch_size=None),
    "any batches": lambda: [{"x": rows} for rows in ROWS.split(3)],
}


def model():
    """One that draws itself."""
    torch.manual_seed(0)
    q = Normal("q(z|x)", loc=nn.Linear(3, 2), scale=0.5)
    p = Normal("p(x|z)", loc=nn.Linear(2, 3), scale=1.0)
    return Model(-p.log_prob().expectation(q).mean(), optimizer=optim.SGD, optimizer_params={"lr": 0.1})


def weights(model):
    return torch.cat([w.detach().flatten() for w in model.trained_parameters])


def ahead(loader, **options):
    return Prefetched(loader, "cpu", streams=LoggedStreams(), **options)


class StopError(Exception):
    pass


@pytest.mark.parametrize("name", LOADERS)
def test_a_training_that_is_killed_at_any_step_goes_on_bit_for_bit(name, tmp_path):
    how = {"epochs": 2, "seed": 3, "progress": False}
    torch.manual_seed(1)
    whole = model()
    whole.fit(ahead(LOADERS[name]()), **how, save=tmp_path / "{step}.safetensors", save_every=1, keep=99)
    steps = whole.step_count
    assert steps == 2 * (3 if "without" in name else 4)
    for step in range(1, steps):
        rest = model()
        torch.manual_seed(99)
        rest.fit(ahead(LOADERS[name](), depth=1 + step % 3), **how, resume=tmp_path / f"{step}.safetensors")
        assert torch.equal(weights(rest), weights(whole)), step


def test_a_killed_training_has_saved_what_it_was_trained_on_not_what_was_on_its_way(tmp_path):
    file = tmp_path / "model.safetensors"
    fetched = []

    class Counting(Noisy):
        def __getitem__(self, i):
            fetched.append(i)
            return {"x": ROWS[i]}

    def killed(trainer, module, *args):
        if module.model.step_count == 2:
            raise StopError

    killer = LambdaCallback(on_train_batch_start=killed)
    broken = model()
    with pytest.raises(StopError):
        broken.fit(
            ahead(DataLoader(Counting(), batch_size=2)), epochs=1, progress=False, save=file, save_every=1, callbacks=[killer], seed=3
        )
    assert len(fetched) == 10
    assert model().load(file).position["batch"] == 2


def test_on_the_cpu_the_training_is_that_of_the_loader():
    found = []
    for wrap in (lambda loader: loader, lambda loader: Prefetched(loader, "cpu")):
        trained = model()
        torch.manual_seed(5)
        trained.fit(wrap(LOADERS["shuffled"]()), epochs=2, progress=False)
        found.append(weights(trained))
    assert torch.equal(*found)


def test_batches_on_their_way_are_those_of_the_loader():
    """Without noise of the dataset's own, nothing else differs."""
    found = []
    for wrap in (lambda loader: loader, ahead):
        trained = model()
        torch.manual_seed(5)
        trained.fit(wrap(LOADERS["any batches"]()), epochs=3, progress=False)
        found.append(weights(trained))
    assert torch.equal(*found)


def test_the_training_takes_the_tensors_that_were_copied_and_copies_none():
    streams, seen = LoggedStreams(), []
    callback = LambdaCallback(on_train_batch_start=lambda trainer, module, batch, i: seen.append(batch["x"]))
    model().fit(Prefetched(LOADERS["shuffled"](), "cpu", streams=streams), epochs=1, progress=False, callbacks=[callback])
    assert len(seen) == len(streams.copies) == 4
    assert all(a is b for a, b in zip(seen, streams.copies, strict=True))


@pytest.mark.parametrize("given", ["to fit", "to the loader"])
def test_names_of_the_tensors_of_a_batch(given):
    loader = DataLoader(Pairs(), batch_size=5)
    names = ["x", "number"]
    history = model().fit(
        ahead(loader, names=None if given == "to fit" else names), epochs=1, progress=False, names=names if given == "to fit" else None
    )
    assert len(history.train) == 1


def test_a_loader_without_names():
    with pytest.raises(KindError, match=r'names=\["x", "y"\]'):
        model().fit(ahead(DataLoader(Pairs(), batch_size=5)), epochs=1, progress=False)


def test_held_out_data_may_be_on_their_way_too():
    history = model().fit(ahead(LOADERS["any batches"]()), epochs=2, progress=False, validation=ahead(LOADERS["any batches"]()))
    assert len(history.validation) == 2


def test_a_device_where_the_model_is_not():
    there = Prefetched(LOADERS["any batches"](), "meta", streams=LoggedStreams("meta"))
    with pytest.raises(KindError, match="moves its batches to meta, but the model is on cpu"):
        model().fit(there, epochs=1, progress=False)
