"""`fit`: against hand-written loops, in the order of an epoch; what it validates, logs and draws."""

import csv
import logging

import pytest
import torch
from fitted import assert_same, data, vi, weights
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset
from zoo import Decoder, Encoder, Label, prior

from pixyz.core import KindError, NonFiniteLossError, ParameterError
from pixyz.distributions import Normal
from pixyz.losses import ELBO, Parameter
from pixyz.models import ML, VI, CyclicalSchedule, History, LinearSchedule, Model, Optimizer, plot_history
from pixyz.models.lightning import LightningModel

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers")


class Batches(Callback):
    """Keeps the batches of each epoch."""

    def __init__(self):
        self.trained, self.validated = [], []

    def on_train_epoch_start(self, trainer, pl_module):
        self.trained.append([])

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.trained[-1].append(batch["x"])

    def on_validation_epoch_start(self, trainer, pl_module):
        self.validated.append([])

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        self.validated[-1].append(batch["x"])


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-10), (torch.float32, 1e-5)], ids=["float64", "float32"])
def test_fit_is_the_loop_that_one_would_write(dtype, atol):
    torch.set_default_dtype(dtype)
    x = data()["x"].to(dtype)
    ours, theirs, batches = vi(), vi(), Batches()
    with torch.random.fork_rng():
        torch.manual_seed(7)
        history = ours.fit({"x": x}, epochs=3, batch_size=5, seed=3, callbacks=[batches])
    torch.manual_seed(7)
    optimizer = optim.Adam(theirs.loss.parameters(), lr=1e-2)
    for epoch in range(3):
        total = 0.0
        for rows in batches.trained[epoch]:
            optimizer.zero_grad()
            loss = theirs.loss.estimate({"x": rows})
            loss.backward()
            optimizer.step()
            total += len(rows) * loss.item()
        assert history.train[epoch] == pytest.approx(total / 23, abs=atol)
        assert sorted(torch.cat(batches.trained[epoch]).tolist()) == sorted(x.tolist())
    for v, w in zip(weights(ours).values(), weights(theirs).values(), strict=True):
        torch.testing.assert_close(v, w, rtol=0, atol=atol)


def order_of(tmp_path, given=None, **options):
    """The data of each batch by their numbers, of each epoch of training, and of validation."""
    p = Normal("p(x)", loc=nn.Parameter(torch.zeros(1)), scale=1.0)
    x, batches = torch.arange(23.0)[:, None], Batches()
    validate = {"x": x[:7]}
    ML(p).fit({"x": x} if given is None else given, validation=validate, callbacks=[batches], progress=False, **options)
    return tuple([[[int(i) for i in rows] for rows in epoch] for epoch in epochs] for epochs in (batches.trained, batches.validated))


def test_every_datum_comes_once_in_an_epoch_and_each_epoch_has_its_own_order(tmp_path):
    options = {"epochs": 2, "batch_size": 5, "seed": 0}
    whole, validated = order_of(tmp_path, save=tmp_path / "a_{step}", save_every=1, keep=None, **options)
    for epoch in whole:
        assert sorted(i for rows in epoch for i in rows) == [*range(23)]
        assert [len(rows) for rows in epoch] == [5, 5, 5, 5, 3]
        assert [i for rows in epoch for i in rows] != [*range(23)]
    assert whole[0] != whole[1]
    assert validated == [[[0, 1, 2, 3, 4], [5, 6]]] * 2
    assert order_of(tmp_path, **options)[0] == whole
    assert order_of(tmp_path, **{**options, "seed": 1})[0][0] not in whole
    for step, rest in ((2, [whole[0][2:], whole[1]]), (5, [whole[1]]), (7, [whole[1][2:]])):
        assert order_of(tmp_path, resume=tmp_path / f"a_{step}", **options)[0] == rest
    loader = DataLoader([{"x": torch.tensor([float(i)])} for i in range(23)], batch_size=5, drop_last=True)
    assert order_of(tmp_path, loader, epochs=1)[0] == [[[*range(i, i + 5)] for i in (0, 5, 10, 15)]]


def test_validation_changes_nothing_of_the_training():
    a, b = vi(), vi()
    for model, held_out in ((a, None), (b, data(9))):
        torch.manual_seed(1)
        model.fit({"x": torch.ones(23, 6)}, epochs=2, batch_size=5, validation=held_out)
    assert_same(a, b)


def test_the_validation_loss_is_that_of_the_averages_and_counts_every_datum_once():
    torch.set_default_dtype(torch.float64)
    p = Normal(var=["x"], loc=nn.Parameter(torch.zeros(2)), scale=1.0)
    model = ML(p, optimizer=optim.SGD, optimizer_params={"lr": 0.5}, ema=0.5)
    held_out = {"x": torch.randn(7, 2)}
    history = model.fit({"x": torch.ones(8, 2)}, epochs=1, batch_size=4, validation=held_out)
    assert history.validation == [pytest.approx(model.test(held_out).item(), abs=1e-12)]
    assert model.evaluate(held_out).loss == pytest.approx(model.test(held_out).item(), abs=1e-12)
    with model.averaged():
        assert p.loc[0].item() == pytest.approx((0.5 * 0.5 + 1.0 * 0.75) / 1.5)


def test_early_stopping_and_the_best_weights(tmp_path):
    """A step so long that the loss grows from the start: one epoch, the best, and two more."""
    p = Normal(var=["x"], loc=nn.Parameter(torch.ones(2)), scale=1.0)
    model = ML(p, optimizer=optim.SGD, optimizer_params={"lr": 3.0})
    best = tmp_path / "best.safetensors"
    x = {"x": torch.zeros(4, 2)}
    history = model.fit(x, epochs=50, validation=x, patience=2, best=best, save=tmp_path / "last")
    assert len(history.train) == 3
    assert history.stopped_early
    assert history.best_epoch == 1
    assert model.load(best).step_count == 1
    assert len(ML(p, optimizer=optim.SGD).fit(x, epochs=50, validation=x, patience=2, resume=tmp_path / "last").train) == 3


def test_schedules():
    warm = LinearSchedule(0.5, 1.0, steps=2)
    assert [warm(t) for t in range(4)] == [0.5, 0.75, 1.0, 1.0]
    assert str(warm) == "0.5 to 1 in 2 steps"
    waves = CyclicalSchedule(0.0, 1.0, period=4, ramp=0.5)
    assert [waves(t) for t in range(6)] == [0.0, 0.5, 1.0, 1.0, 0.0, 0.5]
    with pytest.raises(ParameterError, match="steps must be a whole number of steps, at least 1; got 0"):
        LinearSchedule(0.0, 1.0, steps=0)
    with pytest.raises(ParameterError, match="above 0 and at most 1; got 0"):
        CyclicalSchedule(0.0, 1.0, period=4, ramp=0)
    p = Normal(var=["x"], loc=nn.Parameter(torch.zeros(2)), scale=1.0)
    loss = (Parameter("beta") * p.log_prob()).mean()
    with pytest.raises(
        ParameterError, match=r'a schedule for betta, which the loss has not. Did you mean .beta.\? Write Parameter\("betta"\)'
    ):
        Model(loss, schedules={"betta": warm})
    with pytest.raises(KindError, match="the schedule of beta is a function of the number of steps, .* got a float"):
        Model(loss, schedules={"beta": 0.5})


def test_every_term_is_logged_under_its_printed_name(tmp_path):
    class Own(Logger):
        name, version = "own", 0

        def __init__(self):
            super().__init__()
            self.rows = []

        def log_metrics(self, metrics, step=None):
            self.rows.append((step, metrics))

        def log_hyperparams(self, *args, **kwargs):
            """There are none."""

    model, x, own = vi(), data(), Own()
    terms = [*model.loss.explain(x).as_dict()]
    loggers = [CSVLogger(tmp_path, name="csv"), TensorBoardLogger(tmp_path, name="board"), own]
    history = model.fit(x, epochs=2, batch_size=5, validation=x, logger=loggers, log_every=4)
    assert [step for step, metrics in own.rows if f"train/{terms[0]}" in metrics] == [0, 4, 8]
    assert [step for step, metrics in own.rows if "validation/loss" in metrics] == [5, 10]
    for wanted in (f"train/{t}" for t in terms):
        assert any(wanted in metrics for _, metrics in own.rows), wanted
    assert [m["validation/loss"] for _, m in own.rows if "validation/loss" in m] == history.validation
    assert [m["train/loss"] for _, m in own.rows if "train/loss" in m] == history.train
    with (tmp_path / "csv" / "version_0" / "metrics.csv").open() as file:
        assert {f"validation/{t}" for t in terms} <= set(csv.DictReader(file).fieldnames)
    assert list((tmp_path / "board" / "version_0").glob("events*"))


def test_terms_are_logged_at_every_fiftieth_step_and_what_lightning_says_is_heard_again():
    class Steps(Logger):
        name, version = "steps", 0

        def __init__(self):
            super().__init__()
            self.steps = []

        def log_metrics(self, metrics, step=None):
            self.steps += [step for name in metrics if name.startswith("train/-log")]

        def log_hyperparams(self, *args, **kwargs):
            """There are none."""

    rows, said = Steps(), logging.getLogger("lightning.pytorch")
    before = said.level
    said.setLevel(logging.INFO)
    try:
        ML(Normal("p(x)", loc=nn.Parameter(torch.zeros(1)), scale=1.0)).fit({"x": torch.zeros(52, 1)}, epochs=1, batch_size=1, logger=rows)
        assert said.level == logging.INFO
    finally:
        said.setLevel(before)
    assert rows.steps == [0, 50]


def test_what_is_logged_of_a_step_is_what_the_step_has_seen():
    """The terms are evaluated once more, at the same draws, and leave no trace in batch normalisation or the generator."""

    class Rows(Logger):
        name, version = "rows", 0

        def __init__(self):
            super().__init__()
            self.losses = []

        def log_metrics(self, metrics, step=None):
            self.losses += [value for name, value in metrics.items() if name.startswith("train/-mean")]

        def log_hyperparams(self, *args, **kwargs):
            """There are none."""

    class Normed(Encoder):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm1d(6)

        def forward(self, x):
            return super().forward(self.norm(x))

    def build():
        torch.manual_seed(0)
        return VI(Decoder() * prior(), Normed())

    class Losses(Callback):
        def __init__(self):
            self.seen = []

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            self.seen.append(outputs["loss"].item())

    x, losses, rows = data(20), Losses(), Rows()
    logged, plain = build(), build()
    for model, options in ((logged, {"logger": rows, "log_every": 1, "callbacks": [losses]}), (plain, {})):
        torch.manual_seed(1)
        model.fit(x, epochs=2, batch_size=5, **options)
    assert rows.losses == pytest.approx(losses.seen, abs=1e-6)
    assert_same(logged, plain)
    assert torch.equal(logged.loss.get_buffer("q(z|x).norm.running_mean"), plain.loss.get_buffer("q(z|x).norm.running_mean"))


def test_several_optimisers_clipping_and_accumulation_are_the_models():
    def build():
        torch.manual_seed(0)
        p, q = Decoder(), Encoder()
        some = [Optimizer([p], optim.Adam, {"lr": 1e-2}), Optimizer([q], optim.SGD, {"lr": 1e-1})]
        return Model(-ELBO(p * prior(), q).mean(), optimizers=some, accumulate=2, clip_grad_norm=0.5)

    ours, theirs = build(), build()
    x = torch.ones(20, 6)  # whatever their order, the data are the same
    torch.manual_seed(1)
    ours.fit({"x": x}, epochs=2, batch_size=5)
    torch.manual_seed(1)
    for _ in range(8):
        theirs.train({"x": x[:5]})
    assert_same(ours, theirs)
    assert ours.step_count == 4


def test_a_compiled_model():
    def build(**options):
        torch.manual_seed(0)
        return ML(Label(), **options)

    compiled, plain = build(compile={"backend": "eager"}), build()
    values = {**data(20), "y": torch.eye(3)[torch.arange(20) % 3]}
    for model in (compiled, plain):
        model.fit(values, epochs=2, batch_size=5)
    for v, w in zip(weights(compiled).values(), weights(plain).values(), strict=True):
        torch.testing.assert_close(v, w, rtol=0, atol=1e-6)


def test_half_precision_networks_and_whole_densities():
    x = data(64)
    half, whole = vi(), vi()
    whole.fit(x, epochs=20, seed=1)
    history = half.fit(x, epochs=20, seed=1, precision="bf16-mixed")
    assert {w.dtype for w in half.trained_parameters} == {torch.float32}
    assert history.train[-1] == pytest.approx(whole.test(x).item(), abs=0.5)
    with torch.autocast("cpu", torch.bfloat16):
        loss = half.loss.estimate(x)
    assert loss.dtype == torch.float32
    assert not torch.equal(loss, half.loss.estimate(x))


def test_a_trainer_of_ones_own():
    class Norms(Callback):
        def __init__(self):
            self.seen = []

        def on_before_optimizer_step(self, trainer, pl_module, optimizer):
            self.seen.append(max(float(w.grad.abs().max()) for w in pl_module.parameters()))

    norms, model = Norms(), vi()
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(max_steps=7, accelerator="cpu", devices=1, callbacks=[norms], **quiet)
    loader = DataLoader(TensorDataset(data()["x"]), batch_size=5)
    trainer.fit(LightningModel(model, names=["x"]), loader, loader)
    assert model.step_count == trainer.global_step == len(norms.seen) == 7
    assert min(norms.seen) > 0
    assert trainer.callback_metrics["validation/loss"] > 0
    assert trainer.progress_bar_metrics["loss"] > 0


def test_modes_are_those_of_training_afterwards_and_of_evaluation_in_validation():
    modes = []

    class Spy(Encoder):
        def forward(self, x):
            modes.append((self.training, torch.is_grad_enabled()))
            return super().forward(x)

    model = VI(Decoder() * prior(), Spy())
    model.fit(data(5), epochs=1, validation=data(5))
    assert modes == [(True, True), (False, False)]


def test_a_loss_that_is_not_finite_stops_it_with_the_weights_of_before():
    """NaN at step 73."""
    p = Normal(var=["x"], loc=nn.Parameter(torch.zeros(1)), scale=1.0)
    model = ML(p, optimizer=optim.SGD, optimizer_params={"lr": 1e-3})
    kept = {}

    class Keep(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            kept[model.step_count] = p.loc.item()

    batches = [torch.ones(2, 1)] * 72 + [torch.full((2, 1), torch.nan)] + [torch.ones(2, 1)] * 9
    with pytest.raises(
        NonFiniteLossError, match=r"p\(x\) \(Normal\): x must be a number, but 2 of 2 are not .* The optimiser has not stepped"
    ):
        model.fit(batches, epochs=1, names=["x"], callbacks=[Keep()])
    assert model.step_count == 72
    assert p.loc.item() == kept[72]


def test_the_history_prints_and_is_drawn(tmp_path):
    history = History([3.0, 2.0], [3.5, 2.5])
    assert str(history) == "epoch  train  validation\n    1      3         3.5\n    2      2         2.5"
    figure = plot_history(history, path=tmp_path / "a.png")
    assert [line.get_label() for line in figure.axes[0].lines] == ["train", "validation"]
    assert History().best_epoch is None


def test_a_bar_where_it_is_asked_for(capsys):
    vi().fit(data(), epochs=1, progress=True)
    assert "Epoch 0" in capsys.readouterr().out
