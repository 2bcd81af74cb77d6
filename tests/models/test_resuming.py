"""Training that is resumed from any of its checkpoints, on any form of data, ends where it would have ended without a break."""

import pytest
import torch
from fitted import Rows, assert_same, data, vi
from torch.optim.lr_scheduler import ExponentialLR
from torch.utils.data import DataLoader, IterableDataset, TensorDataset
from zoo import Decoder, Encoder, prior

from pixyz.core import CheckpointError
from pixyz.losses import ELBO, Parameter
from pixyz.models import Model

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers")


class Noisy(Rows):
    """Rows that are another draw each time they are asked for, from torch's generator."""

    def __getitem__(self, i):
        return (torch.bernoulli(0.8 * self.x[i] + 0.1),)


class Streamed(IterableDataset):
    """Batches in an order that is drawn when they are asked for."""

    def __init__(self, x):
        self.x = x

    def __iter__(self):
        yield from [{"x": part} for part in self.x[torch.randperm(len(self.x))].split(5)]


FORMS = {
    "mapping": lambda x: {"x": x},
    "mapping with more": lambda x: {"x": x, "label": torch.arange(len(x)), "source": "digits"},
    "TensorDataset": lambda x: TensorDataset(x),
    "Dataset": Rows,
    "noisy Dataset": Noisy,
    "DataLoader": lambda x: DataLoader(TensorDataset(x), batch_size=5, shuffle=True),
    "DataLoader in order": lambda x: DataLoader(Rows(x), batch_size=5, drop_last=True),
    "DataLoader of drawn rows": lambda x: DataLoader(
        TensorDataset(x), batch_size=5, sampler=torch.utils.data.WeightedRandomSampler([1.0 + i for i in range(len(x))], len(x))
    ),
    "batches": lambda x: list(x.split(5)),
    "IterableDataset": Streamed,
}
EACH_CHECKPOINT = ("mapping", "DataLoader", "IterableDataset")
"""One form of each kind is resumed from every checkpoint, the others from every third."""
OWN_BATCHES = ("DataLoader", "DataLoader in order", "DataLoader of drawn rows", "batches", "IterableDataset")


def batch_size_of(form):
    return None if form in OWN_BATCHES else 5


@pytest.mark.parametrize("form", FORMS)
def test_a_training_goes_on_from_any_of_its_checkpoints_bit_for_bit(form, tmp_path):
    make, x = FORMS[form], data()["x"]
    options = {"scheduler": ExponentialLR, "scheduler_params": {"gamma": 0.9}, "ema": 0.9, "clip_grad_norm": 1.0, "accumulate": 2}
    given = {"epochs": 2, "batch_size": batch_size_of(form), "names": ["x"], "validation": {"x": x[:7]}, "seed": 4, "patience": 9}
    whole = vi(**options)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        told = whole.fit(make(x), save=tmp_path / "a_{step}", save_every=1, keep=None, **given)
    saved = sorted(tmp_path.iterdir(), key=lambda path: int(path.name[2:]))
    assert len(saved) >= 4
    for path in saved if form in EACH_CHECKPOINT else saved[::3]:
        torch.manual_seed(2)  # of another process
        resumed = vi(**options)
        torch.rand(3)
        history = resumed.fit(make(x), resume=path, **given)
        assert_same(whole, resumed)
        assert resumed.step_count == whole.step_count
        differing = [a != b for a, b in zip(history.train, told.train, strict=True)]
        assert sum(differing) <= 1  # of the epoch that was cut, it is the mean of the rest
        assert history.validation == told.validation
        assert history.terms == told.terms


def test_a_finished_training_is_finished(tmp_path):
    model, x = vi(), data()
    told = model.fit(x, epochs=2, save=tmp_path / "a_{step}.safetensors")
    again = vi()
    assert again.fit(x, epochs=2, save=tmp_path / "a_{step}.safetensors", resume=True).train == told.train
    assert_same(model, again)
    longer = again.fit(x, epochs=3, save=tmp_path / "a_{step}.safetensors", resume=True)
    assert len(longer.train) == 3


def test_resume_true_begins_where_there_is_nothing_yet(tmp_path):
    assert len(vi().fit(data(), epochs=2, save=tmp_path / "a_{step}", resume=True).train) == 2


def test_schedules_count_steps_and_go_on(tmp_path):
    seen = []

    def spy(step):
        seen.append(step)
        return 0.1 * step

    def build():
        loss = -ELBO(Decoder() * prior(), Encoder(), kl="analytic", beta=Parameter("beta")).mean()
        return Model(loss, schedules={"beta": spy})

    model = build()
    assert "beta: spy" in str(model)
    model.fit(data(10), epochs=2, batch_size=5, save=tmp_path / "a")
    assert seen == [0, 1, 2, 3]
    build().fit(data(10), epochs=3, batch_size=5, resume=tmp_path / "a")
    assert seen == [0, 1, 2, 3, 4, 5]
    x = data(4)["x"]
    with torch.random.fork_rng():
        given = model.test({"x": x, "beta": 0.4})
    assert model.test({"x": x}).item() == pytest.approx(given.item())
    assert model.evaluate({"x": x}).terms["beta"] == pytest.approx(0.4)


def test_resuming_what_does_not_fit(tmp_path):
    model, x = vi(), data()
    model.fit(x, epochs=1, batch_size=5, save=tmp_path / "a_{step}", save_every=2, keep=None)
    with pytest.raises(
        CheckpointError, match="is in the middle of an epoch of 23 data in batches of 5; fit is given 23 data in batches of 6"
    ):
        vi().fit(x, epochs=1, batch_size=6, resume=tmp_path / "a_2")
    with pytest.raises(CheckpointError, match="is in the middle of an epoch of 23 .*; fit is given a loader in an order of its own"):
        vi().fit([x["x"]], epochs=1, names=["x"], resume=tmp_path / "a_2")
    with pytest.raises(CheckpointError, match="is of a training with seed=0; this one has seed=1"):
        vi().fit(x, epochs=1, batch_size=5, seed=1, resume=tmp_path / "a_2")
    model.save(tmp_path / "b")
    with pytest.raises(CheckpointError, match="does not say where in its data the training was: fit has not saved it"):
        vi().fit(x, epochs=1, resume=tmp_path / "b")
    with pytest.raises(FileNotFoundError):
        vi().fit(x, epochs=1, resume=tmp_path / "none")
    assert len(vi().fit(x, epochs=2, batch_size=6, resume=tmp_path / "a_5").train) == 2  # at the end of an epoch any batch size will do
