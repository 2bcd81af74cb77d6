"""Several optimisers, schedulers, accumulation and averaged weights, each against a loop written by hand."""

import copy
import functools

import pytest
import torch
from torch import nn, optim
from torch.optim.lr_scheduler import ReduceLROnPlateau, StepLR
from zoo import Decoder, Encoder, Label, binary, prior

from pixyz.core import KindError, ParameterError, seeded
from pixyz.distributions import Normal
from pixyz.losses import ELBO, NLL
from pixyz.models import ML, VI, Model, Optimizer


@pytest.fixture(autouse=True)
def double():
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)


def two():
    """A loss, its two distributions, copies of them, and the loss of the copies."""
    p, q = Decoder(), Encoder()
    p2, q2 = copy.deepcopy(p), copy.deepcopy(q)
    z = prior().double()
    return -ELBO(p * z, q).mean(), p, q, -ELBO(p2 * z, q2).mean(), p2, q2


def assert_same(ours, theirs, atol=1e-12):
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=atol)


def test_several_optimisers_equal_a_hand_written_loop():
    loss, p, q, other, p2, q2 = two()
    x = binary(7).double()
    model = Model(
        loss,
        optimizers=[
            Optimizer([p], optim.Adam, {"lr": 1e-2}, scheduler=StepLR, scheduler_params={"step_size": 5, "gamma": 0.5}),
            Optimizer(q, optim.SGD, {"lr": 1e-2, "momentum": 0.9}),
        ],
        clip_grad_norm=1.0,
    )
    adam, sgd = optim.Adam(p2.parameters(), lr=1e-2), optim.SGD(q2.parameters(), lr=1e-2, momentum=0.9)
    scheduler = StepLR(adam, step_size=5, gamma=0.5)
    for i in range(20):
        with seeded(i):
            model.train({"x": x})
        with seeded(i):
            value = other.estimate({"x": x})
        adam.zero_grad()
        sgd.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_([*p2.parameters(), *q2.parameters()], 1.0)
        adam.step()
        sgd.step()
        scheduler.step()
    assert_same(p, p2)
    assert_same(q, q2)
    assert model.optimizers[0].param_groups[0]["lr"] == pytest.approx(1e-2 / 16)
    assert [type(o) for o in model.optimizers] == [optim.Adam, optim.SGD]
    assert len(model.schedulers) == 1
    assert model.step_count == 20


def test_one_optimiser_has_a_scheduler_by_the_same_words():
    model = ML(
        Label(), optimizer=optim.SGD, optimizer_params={"lr": 1.0}, scheduler=StepLR, scheduler_params={"step_size": 1, "gamma": 0.1}
    )
    for _ in range(3):
        model.train({"x": binary().double(), "y": torch.eye(3)[[0, 1, 2, 0, 1]]})
    assert model.optimizer.param_groups[0]["lr"] == pytest.approx(1e-3)
    assert "optimiser:  SGD(lr=1.0), StepLR(step_size=1, gamma=0.1)" in str(model)


@pytest.mark.parametrize("kind", [optim.SGD, optim.Adam], ids=["SGD", "Adam"])
def test_accumulated_gradients_are_those_of_the_big_batch(kind):
    f = Label()
    f2 = copy.deepcopy(f)
    x, y = torch.randn(24, 6), torch.eye(3)[torch.arange(24) % 3]
    small = ML(f, optimizer=kind, optimizer_params={"lr": 0.1}, accumulate=4)
    big = ML(f2, optimizer=kind, optimizer_params={"lr": 0.1})
    for _ in range(3):
        parts = [small.train({"x": a, "y": b}) for a, b in zip(x.chunk(4), y.chunk(4), strict=True)]
        whole = big.train({"x": x, "y": y})
        assert torch.stack(parts).mean().item() == pytest.approx(whole.item(), abs=1e-12)
        assert_same(f, f2)
    assert (small.step_count, big.step_count) == (3, 3)


def test_nothing_is_stepped_before_the_last_call():
    f = Label()
    model = ML(f, accumulate=3, ema=0.9, scheduler=StepLR, scheduler_params={"step_size": 1, "gamma": 0.1})
    before = copy.deepcopy(f.state_dict())
    for _ in range(2):
        model.train({"x": binary().double(), "y": torch.eye(3)[[0, 1, 2, 0, 1]]})
    assert all(torch.equal(before[k], v) for k, v in f.state_dict().items())
    assert (model.step_count, model.ema.updates, model.optimizer.param_groups[0]["lr"]) == (0, 0, 1e-3)


def test_the_average_is_its_formula():
    loss, _, q, *_ = two()
    model = Model(loss, ema=0.8)
    x = binary().double()
    history = []
    for _ in range(6):
        model.train({"x": x})
        history.append(q.loc.weight.detach().clone())
    share = torch.tensor([0.8 ** (6 - s) for s in range(1, 7)])
    expected = sum(w * a for w, a in zip(history, share / share.sum(), strict=True))
    with model.averaged(), model.averaged():
        torch.testing.assert_close(q.loc.weight.detach(), expected, rtol=0, atol=1e-14)
    assert torch.equal(q.loc.weight, history[-1])


def test_the_test_loss_is_that_of_the_averages():
    f = Label()
    model = ML(f, optimizer=optim.SGD, optimizer_params={"lr": 1.0}, ema=0.9)
    values = {"x": torch.randn(5, 6), "y": torch.eye(3)[[0, 1, 2, 0, 1]]}
    for _ in range(4):
        model.train(values)
    kept = copy.deepcopy(f.state_dict())
    with model.averaged():
        expected = model.loss.estimate(values).item()
    assert model.test(values).item() == expected != model.loss.estimate(values).item()
    assert all(torch.equal(kept[k], v) for k, v in f.state_dict().items())


def test_the_average_goes_on_from_its_state():
    loss, _, _, other, _, _ = two()
    a, b = Model(loss, ema=0.9), Model(other, ema=0.9)
    for _ in range(3):
        a.train({"x": binary().double()})
    state = copy.deepcopy(a.ema.state_dict())
    assert set(state["weights"]) == {name for name, _ in a.loss.named_parameters()}
    b.ema.load_state_dict(state)
    assert b.ema.state_dict()["updates"] == 3
    with a.averaged(), b.averaged():
        assert_same(a.loss, b.loss)
    with pytest.raises(
        ParameterError, match=r"The average of q\(z\|x\)\.fc1\.bias must have the shape \(8,\); the one that came has \(2,\)"
    ):
        b.ema.load_state_dict({"updates": 1, "weights": {**state["weights"], "q(z|x).fc1.bias": torch.zeros(2)}})
    for updates in (-1, 1.5, True):
        with pytest.raises(ParameterError, match=f"is of a whole number of steps; the one that came is of {updates}"):
            b.ema.load_state_dict({**state, "updates": updates})
    del state["weights"]["q(z|x).fc1.bias"]
    with pytest.raises(ParameterError, match=r"other weights: q\(z\|x\)\.fc1\.bias stands on one side only"):
        b.ema.load_state_dict(state)


def test_an_error_inside_leaves_the_weights_as_they_were():
    f = Label()
    model = ML(f, ema=0.9)
    values = {"x": torch.randn(5, 6), "y": torch.eye(3)[[0, 1, 2, 0, 1]]}
    for _ in range(2):
        model.train(values)
    before = copy.deepcopy(f.state_dict())
    with pytest.raises(ParameterError, match=r"train would train the averages\. Leave the block of averaged\(\) first"), model.averaged():
        model.train(values)
    assert all(torch.equal(before[k], v) for k, v in f.state_dict().items())


def test_what_another_model_trains_gets_no_gradient():
    loss, p, q, *_ = two()
    with pytest.warns(UserWarning, match=r"uses p\(x\|z\), which nobody trains"):
        Model(loss, distributions=[q]).train({"x": binary().double()})
    assert all(w.grad is None for w in p.parameters())
    assert all(w.grad is not None for w in q.parameters())


def test_what_is_fixed_on_purpose_is_no_warning():
    loss, p, q, *_ = two()
    p.requires_grad_(False)
    Model(loss, distributions=[q]).train({"x": binary().double()})


def test_a_warning_points_at_the_line_that_makes_the_model():
    p, q = Decoder(), Encoder()
    with pytest.warns(UserWarning, match="nobody trains") as caught:
        VI(p * prior().double(), q, distributions=[q])
    assert caught[0].filename == __file__


def test_print_several():
    loss, p, q, *_ = two()
    model = Model(
        loss,
        optimizers=[Optimizer([p], optim.Adam, {"lr": 1e-3}), Optimizer([q], optim.SGD, {"lr": 0.1})],
        accumulate=2,
        ema=0.99,
        clip_grad_norm=5,
    )
    assert str(model) == (
        "Model\n"
        "  minimises:  -mean(E_q(z|x)[log p(x,z)/q(z|x)])\n"
        "  trains:     p(x|z): 78 parameters\n"
        "              q(z|x): 92 parameters\n"
        "  optimiser:  Adam(lr=0.001) for p(x|z)\n"
        "              SGD(lr=0.1) for q(z|x)\n"
        "  gradients:  averaged over 2 calls, clipped at norm 5\n"
        "  average:    of the weights, decay 0.99"
    )


def test_a_scheduler_is_given_by_its_name():
    """`Optimizer(p, Adam, {...}, StepLR)` is what a reader takes for one more optimiser."""
    p = Decoder()
    with pytest.raises(TypeError, match="positional"):
        Optimizer([p], optim.Adam, {"lr": 0.1}, StepLR)
    assert Optimizer([p], optim.Adam, {"lr": 0.1}, scheduler=StepLR).scheduler is StepLR


def shared():
    """Two distributions with one network."""
    net = nn.Linear(6, 2)
    p = Normal(var=["y"], cond_var=["x"], loc=net, scale=1.0)
    q = Normal(var=["w"], cond_var=["x"], loc=net, scale=1.0, name="q")
    return NLL(p) + NLL(q), p, q


def in_two(p, q, loss):
    return Model(loss, optimizers=[Optimizer([p, q]), Optimizer([q])])


def of_one_network(p, q, loss):
    both, p2, q2 = shared()
    return Model(both.mean(), optimizers=[Optimizer([p2]), Optimizer([q2])])


PLATEAU = functools.partial(Model, scheduler=ReduceLROnPlateau)

BAD = {
    "a parameter in two": (in_two, ParameterError, r"Model: q\(z\|x\)\.fc1\.weight is in optimisers 1 and 2; only one can train it\."),
    "a network in two": (of_one_network, ParameterError, r"p\(y\|x\)\.\S*weight, which is q\(w\|x\)\.\S*weight, is in optimisers 1 and 2"),
    "nothing to train": (
        lambda p, q, loss: Model(loss, optimizers=[Optimizer([p, q]), Optimizer([prior()])]),
        ParameterError,
        r"Model: optimiser 2 has no parameters to train; it is given p_prior\(z\)\.",
    ),
    "no distribution": (
        lambda p, q, loss: Model(loss, distributions=[]),
        ParameterError,
        r"optimiser 1 has no parameters to train; it is given no distribution\.",
    ),
    "all fixed": (
        lambda p, q, loss: Model(NLL(Label().requires_grad_(False)).mean()),
        ParameterError,
        r"mean\(-log p\(y\|x\)\) has no parameters to train",
    ),
    "no optimiser": (lambda p, q, loss: Model(loss, optimizers=[]), ParameterError, "optimizers is empty; leave it out"),
    "both words": (
        lambda p, q, loss: Model(loss, optimizer=optim.Adam, distributions=[p], optimizers=[Optimizer([p, q])]),
        ParameterError,
        "optimizers says what distributions, optimizer would; give either",
    ),
    "another kind": (
        lambda p, q, loss: Model(loss, optimizers=[optim.Adam(p.parameters())]),
        KindError,
        r"optimizers takes Optimizer\(\[p, q\], torch\.optim\.Adam, \.\.\.\) of pixyz\.models; got a Adam\.",
    ),
    "no distributions": (
        lambda p, q, loss: Model(loss, distributions=p.parameters()),
        KindError,
        "distributions must be distributions; got a Parameter",
    ),
    "made already": (
        lambda p, q, loss: Model(loss, optimizer=optim.Adam(p.parameters())),
        KindError,
        r"optimizer is a class, like torch\.optim\.Adam, made here; got the Adam itself",
    ),
    "a scheduler made already": (
        lambda p, q, loss: Model(loss, scheduler=StepLR(optim.Adam(p.parameters()), 1)),
        KindError,
        r"scheduler is a class, .*, made here; got the StepLR itself",
    ),
    "LBFGS": (
        lambda p, q, loss: Model(loss, optimizer=optim.LBFGS).train({"x": binary().double()}),
        KindError,
        "LBFGS evaluates the loss several times in a step",
    ),
    "plateau": (lambda p, q, loss: PLATEAU(loss), KindError, "ReduceLROnPlateau waits for a measure that no step has"),
    "params of no scheduler": (
        lambda p, q, loss: Model(loss, scheduler_params={"gamma": 0.1}),
        ParameterError,
        "scheduler_params are given, but no scheduler",
    ),
    "accumulate": (lambda p, q, loss: Model(loss, accumulate=0), ParameterError, "accumulate is how many calls .* at least 1; got 0"),
    "ema": (lambda p, q, loss: Model(loss, ema=1.0), ParameterError, "ema is the decay of the average, .* below 1, such as 0.999; got 1.0"),
    "no average": (
        lambda p, q, loss: Model(loss).averaged().__enter__(),
        ParameterError,
        r"no average of its weights; make it with ema=0\.999",
    ),
    "an error of ours in an optimiser": (
        lambda p, q, loss: Model(loss, optimizer=lambda weights: prior() * 2),
        KindError,
        r"^p_prior\(z\) multiplies with distributions; got a int\.",
    ),
    "one of several": (
        lambda p, q, loss: Model(loss, optimizers=[Optimizer([p]), Optimizer([q])]).optimizer,
        ParameterError,
        r"has 2 optimisers; take one of model\.optimizers",
    ),
}


@pytest.mark.parametrize(("make", "error", "said"), BAD.values(), ids=BAD)
def test_bad_input(make, error, said):
    loss, p, q, *_ = two()
    with pytest.raises(error, match=said):
        make(p, q, loss)
