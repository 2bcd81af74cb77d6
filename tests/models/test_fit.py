"""`fit`: against hand-written loops, resumed anywhere, in any form of data; what it logs, saves and refuses."""

import csv
import subprocess
import sys
import textwrap

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from torch import nn, optim
from torch.optim.lr_scheduler import ExponentialLR
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset
from zoo import Decoder, Encoder, Label, binary, prior

from pixyz.core import CheckpointError, KindError, MissingVariableError, NonFiniteLossError, ParameterError, ShapeError
from pixyz.distributions import Normal
from pixyz.losses import ELBO, NLL, Parameter
from pixyz.models import ML, VI, CyclicalSchedule, History, LinearSchedule, Model, Optimizer, plot_history
from pixyz.models._order import EpochOrder, Position
from pixyz.models.lightning import LightningModel

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers")


def vi(**options):
    """A bound's model, the same each time it is built."""
    torch.manual_seed(0)
    given = {"optimizer": optim.Adam, "optimizer_params": {"lr": 1e-2}, **options}
    return VI(Decoder() * prior(), Encoder(dropout=0.2), **given)


def weights(model):
    return {name: w.detach().clone() for name, w in model.loss.named_parameters()}


def assert_same(a, b):
    """Bit for bit."""
    for (name, v), w in zip(weights(a).items(), weights(b).values(), strict=True):
        assert torch.equal(v, w), name


def data(count=23, x=6):
    return {"x": binary(count, x)}


class Rows(Dataset):
    """Tuples, one by one."""

    def __init__(self, x):
        self.x = x

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return (self.x[i],)


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
OWN_BATCHES = ("DataLoader", "DataLoader in order", "DataLoader of drawn rows", "batches", "IterableDataset")


def batch_size_of(form):
    return None if form in OWN_BATCHES else 5


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-10), (torch.float32, 1e-5)], ids=["float64", "float32"])
def test_fit_is_the_loop_that_one_would_write(dtype, atol):
    torch.set_default_dtype(dtype)
    x = data()["x"].to(dtype)
    ours, theirs = vi(), vi()
    with torch.random.fork_rng():
        torch.manual_seed(7)
        history = ours.fit({"x": x}, epochs=3, batch_size=5, seed=3)
    torch.manual_seed(7)
    optimizer = optim.Adam(theirs.loss.parameters(), lr=1e-2)
    for epoch in range(3):
        order = torch.randperm(23, generator=torch.Generator().manual_seed(Position(3, epoch).seed_of_epoch))
        total = 0.0
        for rows in order.split(5):
            optimizer.zero_grad()
            loss = theirs.loss.estimate({"x": x[rows]})
            loss.backward()
            optimizer.step()
            total += len(rows) * loss.item()
        assert history.train[epoch] == pytest.approx(total / 23, abs=atol)
    for v, w in zip(weights(ours).values(), weights(theirs).values(), strict=True):
        torch.testing.assert_close(v, w, rtol=0, atol=atol)


def test_every_datum_comes_once_in_an_epoch_and_each_epoch_has_its_own_order():
    position = Position(0)
    order = EpochOrder(23, 5, position, shuffle=True)
    first = [*order]
    assert sorted(i for rows in first for i in rows) == [*range(23)]
    assert [len(rows) for rows in first] == [5, 5, 5, 5, 3]
    assert first == [*order]
    position.batch = 2
    assert [*order] == first[2:]
    assert len(order) == 3
    position.epoch, position.batch = 1, 0
    assert sorted(i for rows in order for i in rows) == [*range(23)]
    assert [*order] != first
    assert [*EpochOrder(23, 5, Position(1), shuffle=True)] != first
    assert [*EpochOrder(23, 5, Position(0), shuffle=False, drop_last=True)] == [[*range(i, i + 5)] for i in (0, 5, 10, 15)]


@pytest.mark.parametrize("form", FORMS)
def test_a_training_goes_on_from_any_of_its_checkpoints_bit_for_bit(form, tmp_path):
    make, x = FORMS[form], data()["x"]
    options = {"scheduler": ExponentialLR, "scheduler_params": {"gamma": 0.9}, "ema": 0.9, "clip_grad_norm": 1.0, "accumulate": 2}
    given = {"epochs": 3, "batch_size": batch_size_of(form), "names": ["x"], "validate": {"x": x[:7]}, "seed": 4, "patience": 9}
    whole = vi(**options)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        told = whole.fit(make(x), save=tmp_path / "a_{step}", save_every=1, keep=None, **given)
    saved = sorted(tmp_path.iterdir(), key=lambda path: int(path.name[2:]))
    assert len(saved) >= 6
    for path in saved:
        torch.manual_seed(2)  # of another process
        resumed = vi(**options)
        torch.rand(3)
        history = resumed.fit(make(x), resume=path, **given)
        assert_same(whole, resumed)
        assert resumed.step_count == whole.step_count
        assert history.train[:-1] == told.train[:-1] or len(history.train) == 3
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


def test_validation_changes_nothing_of_the_training():
    a, b = vi(), vi()
    for model, held_out in ((a, None), (b, data(9))):
        torch.manual_seed(1)
        model.fit({"x": torch.ones(23, 6)}, epochs=2, batch_size=5, validate=held_out)
    assert_same(a, b)


def test_the_validation_loss_is_that_of_the_averages_and_counts_every_datum_once():
    torch.set_default_dtype(torch.float64)
    p = Normal(var=["x"], loc=nn.Parameter(torch.zeros(2)), scale=1.0)
    model = ML(p, optimizer=optim.SGD, optimizer_params={"lr": 0.5}, ema=0.5)
    held_out = {"x": torch.randn(7, 2)}
    history = model.fit({"x": torch.ones(8, 2)}, epochs=1, batch_size=4, validate=held_out)
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
    history = model.fit(x, epochs=50, validate=x, patience=2, best=best, save=tmp_path / "last")
    assert len(history.train) == 3
    assert history.stopped_early
    assert history.best_epoch == 1
    assert model.load(best).step_count == 1
    assert len(ML(p, optimizer=optim.SGD).fit(x, epochs=50, validate=x, patience=2, resume=tmp_path / "last").train) == 3


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
    history = model.fit(x, epochs=2, batch_size=5, validate=x, logger=loggers, log_every=4)
    assert [step for step, metrics in own.rows if f"train/{terms[0]}" in metrics] == [0, 4, 8]
    assert [step for step, metrics in own.rows if "validation/loss" in metrics] == [5, 10]
    for wanted in (f"train/{t}" for t in terms):
        assert any(wanted in metrics for _, metrics in own.rows), wanted
    assert [m["validation/loss"] for _, m in own.rows if "validation/loss" in m] == history.validation
    assert [m["train/loss"] for _, m in own.rows if "train/loss" in m] == history.train
    with (tmp_path / "csv" / "version_0" / "metrics.csv").open() as file:
        assert {f"validation/{t}" for t in terms} <= set(csv.DictReader(file).fieldnames)
    assert list((tmp_path / "board" / "version_0").glob("events*"))


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
    compiled, plain = vi(compile={"backend": "eager"}), vi()
    for model in (compiled, plain):
        torch.manual_seed(1)
        model.fit(data(20), epochs=2, batch_size=5)
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


def test_modes_are_those_of_training_afterwards_and_of_evaluation_in_validation():
    modes = []

    class Spy(Encoder):
        def forward(self, x):
            modes.append((self.training, torch.is_grad_enabled()))
            return super().forward(x)

    model = VI(Decoder() * prior(), Spy())
    model.fit(data(5), epochs=1, validate=data(5))
    assert modes == [(True, True), (False, False)]


def test_a_loss_that_is_not_finite_stops_it_with_the_weights_of_before():
    """NaN at step 731."""
    p = Normal(var=["x"], loc=nn.Parameter(torch.zeros(1)), scale=1.0)
    model = ML(p, optimizer=optim.SGD, optimizer_params={"lr": 1e-3})
    kept = {}

    class Keep(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            kept[model.step_count] = p.loc.item()

    batches = [torch.ones(2, 1)] * 730 + [torch.full((2, 1), torch.nan)] + [torch.ones(2, 1)] * 9
    with pytest.raises(
        NonFiniteLossError, match=r"p\(x\) \(Normal\): x must be a number, but 2 of 2 are not .* The optimiser has not stepped"
    ):
        model.fit(batches, epochs=1, names=["x"], callbacks=[Keep()])
    assert model.step_count == 730
    assert p.loc.item() == kept[730]


def test_the_history_prints_and_is_drawn(tmp_path):
    history = History([3.0, 2.0], [3.5, 2.5])
    assert str(history) == "epoch  train  validation\n    1      3         3.5\n    2      2         2.5"
    figure = plot_history(history, path=tmp_path / "a.png")
    assert [line.get_label() for line in figure.axes[0].lines] == ["train", "validation"]
    assert History().best_epoch is None


def test_a_bar_where_it_is_asked_for(capsys):
    vi().fit(data(), epochs=1, progress=True)
    assert "Epoch 0" in capsys.readouterr().out


BAD_DATA = {
    "no data": ({"x": torch.zeros(0, 6)}, {}, ShapeError, "VI.fit: there are no data"),
    "an empty loader": ([], {"names": ["x"]}, ShapeError, "VI.fit: there are no data"),
    "a number": (3, {}, KindError, "the data are a mapping, a Dataset or a loader; got a int"),
    "another variable": ({"y": torch.zeros(3, 6)}, {}, ShapeError, "the mapping has no tensor of a variable of the loss, x"),
    "tuples without names": ([(torch.zeros(3, 6),)], {}, KindError, r'Say which variables its tensors are, like names=\["x", "y"\]'),
    "too many names": ([(torch.zeros(3, 6),)], {"names": ["x", "y"]}, ShapeError, "a batch has 1 tensors, but the names are"),
    "wrong names": ([(torch.zeros(3, 6),)], {"names": ["y"]}, MissingVariableError, r"needs x; got \{'y'\}"),
    "wrong shapes": ({"x": torch.zeros(3, 5)}, {}, ShapeError, r"q\(z\|x\): the network failed on x of features \(5,\)"),
    "a batch size with a loader": ([torch.zeros(3, 6)], {"batch_size": 2}, KindError, "a loader has its batches already"),
    "a batch size of 0": ({"x": torch.zeros(3, 6)}, {"batch_size": 0}, KindError, "batch_size must be a whole number of at least 1"),
}


@pytest.mark.parametrize("case", BAD_DATA)
def test_data_that_do_not_fit(case):
    given, options, error, words = BAD_DATA[case]
    model = vi()
    before = weights(model)
    with pytest.raises(error, match=words):
        model.fit(given, epochs=1, **options)
    assert all(torch.equal(before[name], w) for name, w in weights(model).items())


def test_variables_of_unequal_length():
    model = Model(NLL(Label()).mean())
    with pytest.raises(ShapeError, match="y has 4 data, x has 3 data, so they cannot be split together"):
        model.fit({"x": torch.zeros(3, 6), "y": torch.eye(4)[:, :3]}, epochs=1)


def test_an_iterator_that_was_run_through(tmp_path):
    with pytest.raises(ShapeError, match="there are no data. .* a loader that was run through once may be at its end"):
        vi().fit(iter([binary()]), epochs=2, names=["x"])


BAD_WORDS = {
    "no epochs": ({"epochs": 0}, "epochs must be a whole number of at least 1; got 0"),
    "patience alone": ({"patience": 2}, "patience=2 needs validate=, which is not given"),
    "best alone": ({"best": "a"}, "best='a' needs validate="),
    "save_every alone": ({"save_every": 2}, "save_every=2 needs save="),
    "resume from nothing said": ({"resume": True}, "resume=True goes on from the last file of save=, which is not given"),
    "Lightning's clipping": (
        {"gradient_clip_val": 1.0},
        r"gradient_clip_val is Lightning's; say it here with Model\(..., clip_grad_norm=\)",
    ),
    "Lightning's accumulation": ({"accumulate_grad_batches": 2}, r"say it here with Model\(..., accumulate=\)"),
}


@pytest.mark.parametrize("case", BAD_WORDS)
def test_words_that_do_not_fit(case):
    options, words = BAD_WORDS[case]
    with pytest.raises(ParameterError, match=words):
        vi().fit(data(), **{"epochs": 1, **options})


def test_precision_that_is_scaled_is_refused(monkeypatch):
    module = LightningModel(vi())
    module._trainer = type("T", (), {"strategy": Trainer(accelerator="cpu", devices=1, logger=False).strategy, "precision": "16-mixed"})()
    with pytest.raises(KindError, match='Take "bf16-mixed"'):
        module.on_fit_start()


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


def test_without_lightning_the_error_says_what_to_install():
    program = """
        import sys
        sys.modules["lightning"] = None
        import torch
        from pixyz.distributions import Normal
        from pixyz.models import ML
        model = ML(Normal("p(x)", loc=torch.nn.Parameter(torch.zeros(2)), scale=1.0))
        model.train({"x": torch.zeros(3, 2)})
        try:
            model.fit({"x": torch.zeros(3, 2)}, epochs=1)
        except ModuleNotFoundError as error:
            print(error)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=200)
    assert done.stdout == 'Loops of training are run by Lightning, which is not here: pip install "pixyz-models[lightning]".\n', done.stderr
