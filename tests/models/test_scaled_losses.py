"""Losses that are scaled before their gradient is taken: the same training, with steps that overflow left out and counted."""

import math

import pytest
import torch
from torch import nn, optim
from torch.utils._python_dispatch import TorchDispatchMode

from pixyz.core import CheckpointError, KindError, NonFiniteLossError, ParameterError
from pixyz.distributions import Normal
from pixyz.models import Model, scaled_losses

HUGE = 2.0**120
ON = {"on the host": True, "on the device": "deferred", "not at all": False}
OPTIMIZERS = {"SGD": (optim.SGD, {"lr": 0.1}), "Adam": (optim.Adam, {"lr": 0.1}), "Adagrad": (optim.Adagrad, {"lr": 0.1})}


def regression(optimizer="SGD", **options):
    torch.manual_seed(0)
    p = Normal("p(y|x)", loc=nn.Linear(3, 2), scale=1.0)
    kind, params = OPTIMIZERS[optimizer]
    return Model(-p.log_prob().mean(), optimizer=kind, optimizer_params=params, **options)


def batch(seed=0, size=8):
    draws = torch.Generator().manual_seed(seed)
    return {"x": torch.randn(size, 3, generator=draws), "y": torch.randn(size, 2, generator=draws)}


def weights(model):
    return [w.detach().clone() for w in model.trained_parameters]


def train_and_check(model, values):
    model.train(values)
    model.check()


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("validate", ON.values(), ids=ON)
@pytest.mark.parametrize("options", [{}, {"clip_grad_norm": 0.1}, {"accumulate": 2}, {"clip_grad_value": 0.01, "ema": 0.9}], ids=str)
def test_a_scale_that_is_a_power_of_2_changes_no_bit(options, validate):
    """So clipping and accumulation see the gradients divided by it again."""
    plain, scaled = regression(**options), regression(**options, validate=validate)
    for seed in range(4):
        plain.train(batch(seed))
        with scaled_losses(init_scale=2.0**16, growth_interval=2):
            scaled.train(batch(seed))
    assert same(weights(plain), weights(scaled))
    assert scaled.skipped_steps == 0


@pytest.mark.parametrize("validate", ON.values(), ids=ON)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_step_that_overflows_is_left_out_and_counted(optimizer, validate):
    model, plain = regression(optimizer, validate=validate), regression(optimizer)
    values = {v: 1e6 * t for v, t in batch().items()}
    with scaled_losses(init_scale=HUGE, backoff_factor=2.0**-60):
        model.train(batch())  # the optimiser has a state before the step that is left out
        plain.train(batch())
        before = weights(model)
        assert model.skipped_steps == 0
        model.train(values)
        assert same(weights(model), before)
        assert model.skipped_steps == 1
        model.train(batch(1))
        plain.train(batch(1))
    model.check()
    assert model.skipped_steps == 1
    assert model.step_count == 3
    assert same(weights(model), weights(plain))


@pytest.mark.parametrize("validate", [True, "deferred"])
def test_the_first_step_may_overflow(validate, recwarn):
    model = regression("Adam", validate=validate, scheduler=optim.lr_scheduler.StepLR, scheduler_params={"step_size": 1, "gamma": 0.5})
    before = weights(model)
    with scaled_losses(init_scale=2.0**127):
        model.train({v: 1e3 * t for v, t in batch().items()})
    assert same(weights(model), before)
    assert model.skipped_steps == 1
    assert not recwarn.list


@pytest.mark.parametrize("validate", [True, "deferred"])
def test_a_loss_that_is_nan_is_an_error_and_no_overflow(validate):
    model = regression(validate=validate)
    before = weights(model)
    with scaled_losses(), pytest.raises(NonFiniteLossError, match="nan"):
        train_and_check(model, {**batch(), "x": torch.full((8, 3), math.nan)})
    assert same(weights(model), before)
    assert model.skipped_steps == 0
    with scaled_losses():
        model.train(batch())
        model.check()
    assert not same(weights(model), before)


class Steep(torch.autograd.Function):
    """x, with a gradient that is infinite however it is scaled."""

    @staticmethod
    def forward(context, x):
        return x.clone()

    @staticmethod
    def backward(context, slope):
        return torch.full_like(slope, math.inf)


@pytest.mark.parametrize("validate", [True, "deferred"])
def test_a_loss_that_is_nan_does_not_count_as_a_step_without_an_overflow(validate):
    model = regression(validate=validate)
    with scaled_losses(init_scale=2.0**20, growth_factor=2.0**107, growth_interval=2):
        train_and_check(model, batch())
        with pytest.raises(NonFiniteLossError):
            train_and_check(model, {**batch(), "y": torch.full((8, 2), math.nan)})
        large = {**batch(), "y": torch.full((8, 2), 100.0)}
        train_and_check(model, large)  # the second step without an overflow, after which the scale is too large
        assert model.skipped_steps == 0
        train_and_check(model, large)
    assert model.skipped_steps == 1


@pytest.mark.parametrize("validate", [True, "deferred"])
def test_a_gradient_that_overflows_at_a_scale_of_1_is_an_error(validate):
    class Cliff(Normal):
        def __init__(self):
            super().__init__(var=["x"])
            self.weight = nn.Parameter(torch.zeros(2))

        def forward(self):
            return {"loc": Steep.apply(self.weight), "scale": 1.0}

    model = Model(-Cliff().log_prob().mean(), validate=validate)
    with scaled_losses(init_scale=4.0):
        for _ in range(2):
            model.train({"x": torch.ones(3, 2)})
        assert model.skipped_steps == 2
        with pytest.raises(NonFiniteLossError, match=r"gradient with respect to p\(x\).weight is infinite"):
            train_and_check(model, {"x": torch.ones(3, 2)})
    assert model.skipped_steps == 2


def test_the_scale_is_in_the_checkpoint(tmp_path):
    file = tmp_path / "model.safetensors"
    model, other = regression("Adam"), regression("Adam")
    with scaled_losses(init_scale=2.0**100, growth_interval=3):
        for seed in range(4):
            model.train({v: 1e6 * t for v, t in batch(seed).items()} if seed == 1 else batch(seed))
        model.save(file)
        other.load(file)
        assert other.skipped_steps == model.skipped_steps == 1
        for seed in range(4, 9):
            for m in (model, other):
                m.train({v: 2.0**20 * t for v, t in batch(seed).items()})
        assert model.skipped_steps > 1
    assert other.skipped_steps == model.skipped_steps
    assert same(weights(model), weights(other))
    plain = regression("Adam")
    plain.save(tmp_path / "plain.safetensors")
    other.load(tmp_path / "plain.safetensors")
    assert other.skipped_steps == 0


def test_a_scale_that_is_none_is_damage(tmp_path):
    file = tmp_path / "model.safetensors"
    model = regression()
    with scaled_losses():
        model.train(batch())
    model.save(file)
    data = file.read_bytes()
    for old, new in ((b'since\\", 1]', b'since\\",-1]'), (b'scale\\", 65536.0]', b'scale\\",-65536.0]'), (b"skipped", b"skippid")):
        assert data.count(old) == 1
        file.write_bytes(data.replace(old, new))
        with pytest.raises(CheckpointError, match="damaged"):
            model.load(file)


def test_fit_scales_and_goes_on_from_its_checkpoint(tmp_path):
    data, file = {v: 100 * t for v, t in batch(size=24).items()}, tmp_path / "model.safetensors"
    fit = {"batch_size": 4, "progress": False, "save": file}
    with scaled_losses(init_scale=2.0**126):
        whole = regression("Adam")
        whole.fit(data, epochs=2, batch_size=4, progress=False)
        regression("Adam").fit(data, epochs=1, **fit)
        rest = regression("Adam")
        rest.fit(data, epochs=2, **fit, resume=True)
    assert whole.skipped_steps == rest.skipped_steps > 0
    assert same(weights(whole), weights(rest))


def test_a_compiled_model_is_scaled_too():
    plain, scaled = regression(), regression(compile={"backend": "eager"})
    for seed in range(2):
        plain.train(batch(seed))
        with scaled_losses():
            scaled.train(batch(seed))
    assert same(weights(plain), weights(scaled))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"scale": 2.0}, "has no option scale"),
        ({"init_scale": 0.0}, "init_scale must be a positive number; got 0.0"),
        ({"init_scale": math.nan}, "init_scale must be a positive number; got nan"),
        ({"growth_factor": 0.5}, "growth factor must be > 1.0"),
    ],
    ids=str,
)
def test_options_that_no_scaler_takes_are_rejected(options, said):
    with pytest.raises(ParameterError, match=said), scaled_losses(**options):
        pass


def test_weights_in_float16_are_rejected():
    model = regression()
    model.loss.to(torch.float16)
    with scaled_losses(), pytest.raises(KindError, match="loc.weight is in float16, and scaled losses are for weights in float32"):
        model.train({v: t.half() for v, t in batch().items()})


class Reads(TorchDispatchMode):
    """Counts what makes the host wait for an accelerator."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.equal.default)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_host_reads_nothing(optimizer):
    model = regression(optimizer, validate="deferred", clip_grad_norm=1.0)
    with scaled_losses(init_scale=HUGE):
        model.train(batch())  # the first step makes the optimiser's state
        with Reads() as reads:
            for scale in (1.0, 1e6, 1.0):
                model.train({v: scale * t for v, t in batch().items()})
        assert reads.count == 0
        assert model.skipped_steps == 1
