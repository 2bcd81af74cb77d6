"""Games under `fit`: their curves, training that is resumed, and several processes."""

import pytest
import torch
from children import result_of
from gan.test_training import X, gan
from lightning.pytorch.loggers import Logger
from torch import nn, optim

from pixyz.core import CheckpointError
from pixyz.distributions import Deterministic
from pixyz.gan import R1, AdversarialHinge, AdversarialNonSaturating
from pixyz.models import Model

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers")


@pytest.fixture(autouse=True)
def in_float64():
    torch.set_default_dtype(torch.float64)


def assert_same(a, b):
    for v, w in zip(a.trained_parameters, b.trained_parameters, strict=True):
        assert torch.equal(v, w)


class Rows(Logger):
    name, version = "rows", 0

    def __init__(self):
        super().__init__()
        self.rows = []

    def log_metrics(self, metrics, step=None):
        self.rows.append((step, dict(metrics)))

    def log_hyperparams(self, *args, **kwargs):
        """There are none."""


def test_fit_has_both_curves():
    rows, model = Rows(), gan()
    history = model.fit(X, epochs=3, batch_size=5, validation=X, logger=rows, log_every=2, progress=False)
    assert len(history.train) == len(history.discriminator) == len(history.validation) == 3
    logged = {name: [m[name] for _, m in rows.rows if name in m] for name in ("train/loss", "train/discriminator", "validation/loss")}
    assert list(logged.values()) == [history.train, history.discriminator, history.validation]
    assert str(history).splitlines()[0].split() == ["epoch", "train", "validation", "discriminator"]
    assert {"E_p_data(x)[log d(x)]", "E_p(x)[log d(x)]"} <= {name.removeprefix("train/") for _, m in rows.rows for name in m}


def test_a_fit_that_is_resumed_goes_on_bit_for_bit(tmp_path):
    """In the middle of an epoch, between two steps of the discriminator."""
    options = {
        "n_critic": 2,
        "ema": 0.9,
        "scheduler": optim.lr_scheduler.ExponentialLR,
        "scheduler_params": {"gamma": 0.9},
        "d_scheduler": optim.lr_scheduler.ExponentialLR,
        "d_scheduler_params": {"gamma": 0.8},
    }
    whole = gan(**options)
    whole_history = whole.fit(X, epochs=3, batch_size=5, save=tmp_path / "a_{step}", save_every=1, keep=None, progress=False)
    for step in (3, 6):
        resumed = gan(seed=1, **options)
        history = resumed.fit(X, epochs=3, batch_size=5, resume=tmp_path / f"a_{step}", progress=False)
        for found, wanted in ((history.train, whole_history.train), (history.discriminator, whole_history.discriminator)):
            assert found[-1] == wanted[-1]  # of the epoch that was cut, it is the mean of the rest
        assert_same(whole, resumed)
        with whole.averaged(), resumed.averaged():
            assert_same(whole, resumed)
    assert whole.optimizers[0].param_groups[0]["lr"] == pytest.approx(1e-2 * 0.9**6)  # a step in two
    assert whole.optimizers[1].param_groups[0]["lr"] == pytest.approx(1e-2 * 0.8**12)
    with pytest.raises(CheckpointError, match="is of another model. Nothing was loaded"):
        gan(loss=AdversarialHinge, **options).load(tmp_path / "a_3")


def build():
    torch.manual_seed(0)
    p = Deterministic("p(x|z)", x=nn.Linear(2, 3))
    d = Deterministic("d(t|x)", t=nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)))
    return Model(AdversarialNonSaturating(p, d) - R1(p, d), optimizer=optim.SGD, optimizer_params={"lr": 0.1}, n_critic=2)


def fit(model, **options):
    torch.manual_seed(1)
    return model.fit({"x": torch.randn(32, 3), "z": torch.randn(32, 2)}, epochs=2, progress=False, **options)


def fit_on_two_processes(path):
    torch.set_default_dtype(torch.float64)
    model = build()
    history = fit(model, batch_size=4, accelerator="cpu", devices=2, strategy="ddp_fork")
    torch.save((model.loss.state_dict(), history.train, history.discriminator), path)


def test_fit_on_two_processes_is_fit_with_the_whole_batch(tmp_path):
    result_of(fit_on_two_processes, tmp_path / "found.pt")
    weights, *losses = torch.load(tmp_path / "found.pt")
    model = build()
    start = {name: w.clone() for name, w in model.loss.state_dict().items()}
    history = fit(model, batch_size=8)
    for name, weight in model.loss.state_dict().items():
        assert not torch.equal(start[name], weight)
        torch.testing.assert_close(weights[name], weight, rtol=1e-10, atol=1e-10)
    for found, wanted in zip(losses, (history.train, history.discriminator), strict=True):
        assert found == pytest.approx(wanted, abs=1e-10)
