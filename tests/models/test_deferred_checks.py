"""Checks of a model's steps: on the host, on the device, or left out."""

import pytest
import torch
from torch import nn, optim
from torch.utils._python_dispatch import TorchDispatchMode

from pixyz.core import DeferredChecks, KindError, NonFiniteLossError, PixyzError, SupportError
from pixyz.distributions import Bernoulli, Categorical, Deterministic, MultivariateNormal, Normal, Poisson, Truncated
from pixyz.losses import NLL
from pixyz.models import ML, VI, Model


class Reads(TorchDispatchMode):
    """Counts what makes the host wait for an accelerator."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.equal.default)
        return function(*args, **(kwargs or {}))


class Encoder(Normal):
    def __init__(self):
        super().__init__(var=["z"], cond_var=["x"], name="q")
        self.net = nn.Linear(6, 4)

    def forward(self, x):
        loc, scale = self.net(x).chunk(2, -1)
        return {"loc": loc, "scale": scale.exp()}


class Decoder(Bernoulli):
    def __init__(self):
        super().__init__(var=["x"], cond_var=["z"])
        self.net = nn.Linear(2, 6)

    def forward(self, z):
        return {"logits": self.net(z)}


class Shift(Normal):
    """Its scale is what it is told, right or wrong."""

    def __init__(self):
        super().__init__(var=["x"], cond_var=["s"])
        self.loc_ = nn.Parameter(torch.zeros(6))

    def forward(self, s):
        return {"loc": self.loc_.expand(len(s), 6), "scale": s.expand(len(s), 6)}


def bound(**options):
    return VI(Decoder() * Normal("p(z)", loc=torch.zeros(2), scale=torch.ones(2)), Encoder(), **options)


X = torch.ones(4, 6)


def test_a_deferred_step_reads_nothing_and_is_the_same_step():
    models = []
    for validate in (True, "deferred", False):
        torch.manual_seed(0)
        model = bound(optimizer=optim.SGD, optimizer_params={"lr": 0.1}, validate=validate)
        losses = [model.train({"x": X})]
        with Reads() as reads:
            losses += [model.train({"x": X}) for _ in range(3)]
        assert bool(reads.count) is (validate is True)
        models.append((losses, [w.detach() for w in model.trained_parameters]))
    torch.testing.assert_close(models[1:], models[:1] * 2, rtol=0, atol=0)


BAD = {
    "a value": (lambda **o: bound(**o), {"x": X}, {"x": X * 0.5}, r"^p\(x\|z\) \(Bernoulli\): x must be 0 or 1, but 24 of 24 are not"),
    "a parameter": (
        lambda **o: Model(NLL(Shift()).mean(), **o),
        {"x": X, "s": torch.ones(4, 1)},
        {"x": X, "s": -torch.ones(4, 1)},
        r"^p\(x\|s\): scale must be positive, but 24 of 24 are not",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_deferred_check_names_the_term_one_step_late(name):
    build, good, bad, said = BAD[name]
    model = build(optimizer_params={"lr": 0.1}, validate="deferred")
    model.train(good)
    before = [w.detach().clone() for w in model.trained_parameters]
    model.train(bad)
    assert all(map(torch.equal, before, model.trained_parameters))
    with pytest.raises(SupportError, match=said + r".* The weights are those before this step"):
        model.train(good)
    assert all(map(torch.equal, before, model.trained_parameters))
    model.train(good)
    model.check()
    assert not all(map(torch.equal, before, model.trained_parameters))


def test_a_nan_is_a_loss_that_is_not_finite_there_too():
    model = bound(validate="deferred")
    model.train({"x": X})
    model.train({"x": X * torch.nan})
    with pytest.raises(NonFiniteLossError, match=r"^q.z.x.: loc must be a number, but 8 of 8 are not .*8 nan"):
        model.check()


def test_what_fails_once_is_named_all_the_same():
    """A network that is different at every run: evaluated again, it gives what it should."""
    signs = iter([1.0, -1.0, 1.0, 1.0])
    p = Normal("p(x|s)", loc=nn.Linear(1, 6), scale=lambda s: s.expand(len(s), 6) * next(signs))
    model = Model(NLL(p).mean(), validate="deferred")
    values = {"x": X, "s": torch.ones(4, 1)}
    model.train(values)
    model.train(values)
    with pytest.raises(SupportError, match=r"^p\(x\|s\): a number was outside of its support, and was inside when it was evaluated again"):
        model.check()


class Root(Normal):
    """Its mean is 0 at first, where the root has no derivative."""

    def __init__(self, dtype=torch.float32):
        super().__init__(var=["x"], cond_var=["s"])
        self.w = nn.Parameter(torch.zeros(6, dtype=dtype))
        self.v = nn.Parameter(torch.zeros(6))

    def forward(self, s):
        return {"loc": s * self.w.abs().sqrt().to(s) + self.v, "scale": s.expand(len(s), 6)}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_gradient_that_is_not_finite_is_named_where_the_loss_is(dtype, accumulate):
    p = Root(dtype)
    model = Model(
        NLL(p).mean(), optimizer=optim.SGD, optimizer_params={"lr": 0.1, "fused": False}, validate="deferred", accumulate=accumulate
    )
    values = {"x": X, "s": torch.ones(4, 1)}
    for _ in range(accumulate):
        model.train(values)
    assert not p.w.any()
    assert not p.v.any()
    with pytest.raises(NonFiniteLossError, match=r"^The loss is finite, but its gradient with respect to p\(x\|s\)\.w is nan\. The w"):
        model.train(values)
    with torch.no_grad():
        p.w.fill_(4.0)
    for _ in range(accumulate):
        model.train(values)
    model.check()
    assert p.v.any()


def test_without_checks_a_model_trains_on_what_it_is_given():
    model = bound(validate=False)
    assert model.train({"x": X * 0.5}).isfinite()
    assert model.train({"x": X * torch.nan}).isnan()
    assert model.trained_parameters[0].isnan().any()


def test_validate_can_be_changed_and_is_checked():
    model = bound()
    assert model.validate is True
    model.validate = False
    assert model.train({"x": X * 0.5}).isfinite()
    model.validate = True
    with pytest.raises(SupportError):
        model.train({"x": X * 0.5})
    for wrong in ("later", 1, None):
        with pytest.raises(KindError, match=r'^VI: validate must be True, False or "deferred"; got'):
            bound(validate=wrong)


COUNTS = {"rate": torch.tensor([2.0, 3.0])}
LEAVES = {
    "counts": (lambda: Poisson("p(x)", **COUNTS), torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 2.5]])),
    "one-hot": (lambda: Categorical("p(x)", probs=torch.tensor([0.2, 0.8])), torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 1.0]])),
    "vectors": (
        lambda: MultivariateNormal("p(x)", loc=torch.zeros(2), scale_tril=torch.eye(2)),
        torch.zeros(1, 2),
        torch.tensor([[torch.nan, 0.0]]),
    ),
    "truncated": (
        lambda: Truncated(Normal("p(x)", loc=0.0, scale=1.0), lower=0.0, upper=1.0),
        torch.tensor([0.5]),
        torch.tensor([torch.nan]),
    ),
}


@pytest.mark.parametrize("name", LEAVES)
def test_flags_say_what_the_host_says(name):
    build, good, bad = LEAVES[name]
    p = build()
    loss = p.log_prob()
    for x, fails in ((good, False), (bad, True)):
        checks = DeferredChecks()
        with Reads() as reads:
            value = loss.estimate({"x": x}, validate=checks)
        assert reads.count == 0
        failed = checks.failed()
        assert failed is not None
        assert failed.shape == (len(checks.names),)
        assert failed.any() == fails
        if fails:
            assert str(checks.names[int(failed.nonzero()[0])]) == "p(x)"
            with pytest.raises(PixyzError):
                loss.estimate({"x": x})
        else:
            torch.testing.assert_close(value, loss.estimate({"x": x}), rtol=0, atol=0)


def test_verbs_without_checks():
    p = Normal("p(x)", loc=torch.zeros(2), scale=torch.ones(2))
    x = torch.tensor([[torch.nan, 0.0]])
    for call in (p.log_prob().estimate, p.log_likelihood):
        with pytest.raises(SupportError):
            call({"x": x})
        with Reads() as reads:
            value = call({"x": x}, validate=False)
        assert reads.count == 0
        assert value.isnan().all()
        with pytest.raises(KindError, match="validate must be True or False; got 'no'"):
            call({"x": x}, validate="no")
    assert p.sample(batch_size=3, validate=False)["x"].shape == (3, 2)


def test_vmap_over_a_likelihood():
    p = Normal("p(x)", loc=torch.zeros(2), scale=torch.ones(2))
    x = torch.randn(5, 3, 2)
    each = torch.func.vmap(lambda x: p.log_likelihood({"x": x}, validate=False))(x)
    torch.testing.assert_close(each, torch.stack([p.log_likelihood({"x": row}) for row in x]))


def enumerated(scale):
    """An expectation over two categories, of which the second is impossible."""
    q = Categorical("q(k)", probs=nn.Parameter(torch.tensor([1.0, 0.0])))
    p = Normal("p(x|k)", loc=lambda k: k[:, :1], scale=lambda k: (k * scale).sum(-1, keepdim=True))
    return p.log_prob().expectation(q, estimator="enumerate")


def test_an_impossible_category_may_have_any_parameters():
    x = {"x": torch.zeros(3, 1)}
    for scale, fails in ((torch.tensor([1.0, -1.0]), False), (torch.tensor([-1.0, 1.0]), True)):
        checks = DeferredChecks()
        value = enumerated(scale).estimate(x, validate=checks)
        failed = checks.failed()
        assert failed is not None
        assert failed.any() == fails
        if not fails:
            torch.testing.assert_close(value, enumerated(scale).estimate(x), rtol=0, atol=0)


def test_deterministic_values_that_are_given_are_checked_on_the_device():
    f = Deterministic("f(y|x)", y=nn.Linear(2, 2))
    p = Normal("p(z|y)", loc="y", scale=1.0) * f
    x = torch.randn(3, 2)
    y = f.sample({"x": x})["y"].detach()
    loss = p.log_prob()
    for given, fails in ((y, False), (y + 1, True)):
        checks = DeferredChecks()
        loss.estimate({"x": x, "y": given, "z": x}, validate=checks)
        failed = checks.failed()
        assert failed is not None
        assert failed.any() == fails


def test_a_step_is_not_told_how_it_is_checked():
    with pytest.raises(KindError, match=r"^VI\.train takes no validate; say it of the model, VI\(\.\.\., validate=False\)"):
        bound().train({"x": X}, validate=False)


def test_fit_takes_the_same_word():
    pytest.importorskip("lightning")
    p = Normal("p(x)", loc=nn.Parameter(torch.zeros(2)), scale=1.0)
    model = ML(p)
    bad = {"x": torch.full((4, 2), torch.nan)}
    with pytest.raises(NonFiniteLossError):
        model.fit(bad, epochs=1, progress=False)
    history = model.fit(bad, epochs=1, progress=False, validate=False)
    assert history.train[0] != history.train[0]
    assert model.validate is True
    with pytest.raises(KindError, match=r"^ML\.fit: validate says whether.*The data for the validation loss are validation="):
        model.fit(bad, epochs=1, validate=bad, progress=False)
