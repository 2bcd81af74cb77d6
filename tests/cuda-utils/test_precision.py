"""precision: networks in half precision for a block, and everything as before when it ends."""

import copy
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn, optim

from pixyz.core import ParameterError
from pixyz.cuda_utils import precision
from pixyz.distributions import Deterministic, Normal
from pixyz.gan import AdversarialWassersteinDistance, GradientPenalty
from pixyz.models import Model

DTYPES = {"bf16": torch.bfloat16, "f16": torch.float16, "f32": torch.float32}


class Seen(nn.Linear):
    """A layer that keeps the dtypes of its products."""

    def forward(self, input):
        y = super().forward(input)
        self.__dict__.setdefault("dtypes", set()).add(y.dtype)
        return y


def regression(**options):
    torch.manual_seed(0)
    layer = Seen(3, 2)
    p = Normal("p(y|x)", loc=layer, scale=1.0)
    options = {"optimizer": optim.SGD, "optimizer_params": {"lr": 0.1}, **options}
    return Model(-p.log_prob().mean(), **options), layer


def game():
    torch.manual_seed(0)
    layers = [Seen(2, 8), Seen(8, 3), Seen(3, 8), Seen(8, 1)]
    p = Deterministic("p(x|z)", x=nn.Sequential(layers[0], nn.Tanh(), layers[1])) * Normal("p(z)", loc=0.0, scale=1.0, dim=2)
    d = Deterministic("d(t|x)", t=nn.Sequential(layers[2], nn.Tanh(), layers[3]))
    loss = AdversarialWassersteinDistance(p, d) - 10 * GradientPenalty(p, d)
    return Model(loss, optimizer=optim.SGD, optimizer_params={"lr": 0.01}), layers


def batch(size=16):
    draws = torch.Generator().manual_seed(0)
    return {"x": torch.randn(size, 3, generator=draws), "y": torch.randn(size, 2, generator=draws)}


def settings():
    """Torch's settings of the precision of float32, in both forms."""
    read = {
        "matmul": torch.get_float32_matmul_precision,
        "allow_tf32": lambda: torch.backends.cuda.matmul.allow_tf32,
        "cudnn": lambda: torch.backends.cudnn.allow_tf32,
    }
    owners = {"cublas": torch.backends.cuda.matmul, "conv": torch.backends.cudnn.conv, "rnn": torch.backends.cudnn.rnn}
    read |= {name: (lambda owner=owner: owner.fp32_precision) for name, owner in owners.items() if hasattr(owner, "fp32_precision")}
    found = {}
    for name, get in read.items():
        try:
            found[name] = get()
        except RuntimeError:  # torch reads one form only where the other agrees
            found[name] = "unreadable"
    return found


@pytest.fixture(autouse=True)
def as_before():
    before, is_on = settings(), torch.is_autocast_enabled("cpu")
    yield
    assert settings() == before
    assert torch.is_autocast_enabled("cpu") is is_on


@pytest.mark.parametrize("networks", DTYPES)
def test_networks_have_the_precision_in_every_use_of_a_model(networks):
    model, layer = regression(ema=0.9)
    with precision(networks):
        for use in (model.train, model.test, model.loss.estimate):
            layer.__dict__.pop("dtypes", None)
            assert use(batch()).dtype == torch.float32
            assert layer.dtypes == {DTYPES[networks]}, use
        layer.dtypes = set()
        model.fit(batch(), epochs=1, progress=False)
        assert layer.dtypes == {DTYPES[networks]}
    layer.dtypes = set()
    model.test(batch())
    assert layer.dtypes == {torch.float32}
    assert all(w.dtype == w.grad.dtype == torch.float32 for w in model.trained_parameters)


@pytest.mark.parametrize("networks", ["bf16", "f16"])
def test_a_training_in_half_precision_is_near_that_in_float32(networks):
    exact, _ = regression()
    half, _ = regression()
    start = [w.detach().clone() for w in half.trained_parameters]
    with precision(networks):
        for _ in range(10):
            exact_loss, half_loss = exact.loss.estimate(batch()), half.train(batch())
            with precision("f32"):
                exact.train(batch())
            torch.testing.assert_close(half_loss, exact_loss.detach(), rtol=1e-2, atol=1e-2)
    for a, b, before in zip(exact.trained_parameters, half.trained_parameters, start, strict=True):
        # Weights that were converted once and for all would stay near the start.
        assert (a - b).abs().max() < 0.05 * (a - before).abs().max()
    assert half.skipped_steps == 0


@pytest.mark.parametrize("networks", ["bf16", "f16"])
def test_a_game_with_a_gradient_penalty(networks):
    exact, _ = game()
    half, layers = game()
    for step in range(3):
        torch.manual_seed(step)
        exact.train({"x": batch()["x"]})
        torch.manual_seed(step)
        with precision(networks, scaler={"init_scale": 64.0} if networks == "f16" else None):
            losses = half.train({"x": batch()["x"]})
    assert losses.isfinite().all()
    assert half.skipped_steps == 0
    assert all(layer.dtypes == {DTYPES[networks]} for layer in layers)
    for a, b in zip(exact.trained_parameters, half.trained_parameters, strict=True):
        torch.testing.assert_close(a, b, rtol=0.05, atol=0.02)


def test_a_compiled_model_follows_the_block_it_is_in():
    model, _ = regression(compile={"backend": "eager"})
    plain, _ = regression()
    for networks in ("f32", "bf16", "f16", "f32"):
        with precision(networks):
            assert torch.equal(model.train(batch()), plain.train(batch()))


def test_losses_are_scaled_in_float16_alone():
    model, _ = regression()
    with precision("f16", scaler={"init_scale": 2.0**127}):
        model.train({v: 100 * t for v, t in batch().items()})
        assert model.skipped_steps == 1
        with precision("bf16"):
            model.train(batch())
        assert model.skipped_steps == 1
    model.train(batch())
    assert model.skipped_steps == 1


@pytest.mark.parametrize("matmul", ["highest", "high", "medium"])
def test_matrix_products_have_the_precision_inside(matmul):
    before = settings()
    with precision("f32", matmul=matmul):
        assert torch.get_float32_matmul_precision() == matmul
        assert torch.backends.cudnn.allow_tf32 is (matmul != "highest")
        with precision("bf16", matmul="high"):
            assert torch.get_float32_matmul_precision() == "high"
        assert torch.get_float32_matmul_precision() == matmul
        with precision("bf16"):
            assert torch.get_float32_matmul_precision() == matmul
    assert settings() == before


def test_settings_come_back_after_an_error():
    before = settings()
    block = precision("bf16", matmul="medium")
    for _ in range(2):  # it may be entered again
        with pytest.raises(ZeroDivisionError), block, block:
            raise ZeroDivisionError
        assert settings() == before
        assert not torch.is_autocast_enabled("cpu")


@pytest.mark.skipif(not hasattr(torch.backends.cuda.matmul, "fp32_precision"), reason="this torch has the older settings only")
def test_one_block_in_two_threads():
    """Each thread leaves what it has entered itself, in whichever order they do."""
    block, entered = precision("f16"), threading.Barrier(2, timeout=30)
    left = threading.Event()
    dtypes = {}

    def run(name, other):
        model, layer = regression()
        with block:
            entered.wait()
            if other is not None:
                other.wait(30)
            model.train(batch())
        dtypes[name] = (layer.dtypes, torch.is_autocast_enabled("cpu"))
        left.set()

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(run, "first", None), pool.submit(run, "second", left)]:
            done.result()
    assert dtypes == dict.fromkeys(("first", "second"), ({torch.float16}, False))


def test_a_block_can_be_copied_within_itself():
    block = precision("bf16", matmul="high")
    with block:
        other = copy.deepcopy(block)
    assert str(other) == str(block)
    with other:
        assert torch.is_autocast_enabled("cpu")


def test_settings_of_the_newer_form_come_back():
    owner, before = torch.backends.cuda.matmul, torch.get_float32_matmul_precision()
    kept = owner.fp32_precision
    try:
        owner.fp32_precision = "tf32"
        with precision("f32", matmul="highest"):
            assert owner.fp32_precision == "ieee"
        assert owner.fp32_precision == "tf32"
    finally:
        torch.set_float32_matmul_precision(before)
        owner.fp32_precision = kept


def test_it_says_what_it_does():
    assert str(precision("bf16", matmul="high")).splitlines()[0] == "precision('bf16', matmul='high')"
    assert "in bfloat16, by autocast on" in str(precision("bf16"))
    assert "with the losses scaled" in repr(precision("f16"))
    assert str(precision("f32")).endswith("products in float32: as they are")


@pytest.mark.parametrize(
    ("arguments", "options", "said"),
    [
        (("fp8",), {}, r"networks are in 'bf16', 'f16' or 'f32'; got 'fp8'\.$"),
        (("half",), {}, "got 'half'. Say 'f16' for it"),
        (("16-mixed",), {}, "Say 'f16' for it"),
        ((torch.bfloat16,), {}, "got torch.bfloat16. Say 'bf16' for it"),
        ((None,), {}, "got None"),
        (("bf16",), {"matmul": "tf32"}, "matmul must be 'highest', 'high' or 'medium'; got 'tf32'"),
        (("bf16",), {"scaler": {"init_scale": 2.0}}, 'scaler is for "f16"'),
        (("f16",), {"scaler": {"scale": 2.0}}, "has no option scale"),
    ],
    ids=str,
)
def test_names_that_it_does_not_know(arguments, options, said):
    with pytest.raises(ParameterError, match=said):
        precision(*arguments, **options)
