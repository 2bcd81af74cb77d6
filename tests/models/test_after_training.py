"""What trained models are asked for, against closed forms, brute force and hand-computed figures."""

import math

import pytest
import torch
from scipy import stats
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from zoo import Decoder, Encoder, Label, binary, prior

from pixyz.core import FormulaError, KindError, MissingVariableError, Parameter, ShapeError, SupportError, seeded
from pixyz.distributions import Bernoulli, Categorical, Deterministic, Normal, Uniform
from pixyz.losses import ELBO, IWAE, NLL, KullbackLeibler
from pixyz.models import ML, VAE, VI, Model


def linear_gaussian():
    """p(x|z), p(z) and a q(z|x) that is wider than the posterior, so that the weights are bounded, in float64."""
    decoder, encoder = nn.Linear(2, 4).double(), nn.Linear(4, 2).double()
    with torch.no_grad():
        decoder.weight.normal_(generator=torch.Generator().manual_seed(3))
        encoder.weight.copy_(decoder.weight.T / 5)
    p = Normal("p(x|z)", loc=decoder, scale=torch.tensor(0.8).double())
    return p, prior(name="p").double(), Normal("q(z|x)", loc=encoder, scale=torch.tensor(1.0).double())


def exact(p, x):
    weight, bias = (w.detach() for w in p.parameters())
    covariance = weight @ weight.T + 0.8**2 * torch.eye(4)
    return torch.tensor(stats.multivariate_normal(bias.numpy(), covariance.numpy()).logpdf(x.numpy()))


class Conditional(Bernoulli):
    """p(x|z,y)"""

    def __init__(self):
        super().__init__(var=["x"], cond_var=["z", "y"])
        self.fc = nn.Linear(5, 4)
        self.drop = nn.Dropout(0.5)

    def forward(self, z, y):
        return {"logits": self.drop(self.fc(torch.cat([z, y], -1)))}


class ConditionalEncoder(Normal):
    """q(z|x,y)"""

    def __init__(self):
        super().__init__(var=["z"], cond_var=["x", "y"], name="q")
        self.fc = nn.Linear(7, 2)

    def forward(self, x, y):
        return {"loc": self.fc(torch.cat([x, y], -1)), "scale": torch.tensor(0.5)}


def conditional_vae():
    return VAE(ConditionalEncoder(), Conditional(), prior())


def labels(n, k=3):
    return torch.eye(k)[torch.arange(n) % k]


def digits(n=7):
    return {"x": (torch.rand(n, 4) > 0.5).float(), "y": labels(n)}


@pytest.mark.parametrize("kind", [VI, VAE])
def test_the_importance_weighted_estimate_is_the_exact_likelihood_within_four_standard_errors(kind):
    p, p_z, q = linear_gaussian()
    model = VAE(q, p, p_z) if kind is VAE else VI(p * p_z, q)
    x = torch.randn(30, 4, dtype=torch.float64)
    truth = exact(p, x)
    runs = torch.stack([model.log_likelihood({"x": x}, num_samples=2000).each for _ in range(20)])
    variance, mean = torch.var_mean(runs, 0)
    unbiased = mean + variance / 2  # the mean of a logarithm is too small by half of the variance
    assert (variance.sqrt() < 0.2).all()
    assert ((unbiased - truth).abs() < 4 * (variance / 20).sqrt()).all()


def test_few_draws_give_a_lower_bound():
    """With K = 1 it is the ELBO, so that what q misses is missing."""
    p, p_z, q = linear_gaussian()
    x = torch.randn(10, 4, dtype=torch.float64)
    with seeded(1):
        ours = VI(p * p_z, q).log_likelihood({"x": x}, num_samples=1).each
    with seeded(1):
        torch.testing.assert_close(ours, IWAE(p * p_z, q, num_samples=1).estimate({"x": x}).detach())
    assert ours.mean() < exact(p, x).mean()


def test_the_posterior_itself_needs_one_draw():
    p, p_z, _ = linear_gaussian()
    x = torch.randn(10, 4, dtype=torch.float64)
    joint = p * p_z
    model = Model(NLL(joint.marginalize_var("z")).mean(), p=joint, q=joint.posterior("z"))
    torch.testing.assert_close(model.log_likelihood({"x": x}, num_samples=1).each, exact(p, x))


def test_without_q_it_is_exact():
    p, p_z, _ = linear_gaussian()
    x = torch.randn(25, 4, dtype=torch.float64)
    found = ML((p * p_z).marginalize_var("z")).log_likelihood({"x": x}, batch_size=10)
    truth = exact(p, x)
    torch.testing.assert_close(found.each, truth)
    assert found.mean == pytest.approx(truth.mean().item())
    assert found.error == pytest.approx(stats.sem(truth.numpy()))
    assert str(found) == f"{truth.mean():.2f} ± {found.error:.2f} nats"


def test_one_datum_has_no_standard_error():
    assert math.isnan(ML(normal()).log_likelihood({"x": torch.zeros(1, 2).double()}).error)


def normal(loc=0.4, scale=0.1):
    return Normal(var=["x"], loc=nn.Parameter(torch.full((2,), loc).double()), scale=torch.tensor(scale).double())


def test_bits_of_bytes_under_a_flat_density_are_eight():
    flat = Uniform(var=["x"], low=nn.Parameter(torch.zeros(4)), high=torch.ones(4))
    x = (torch.randint(256, (5, 4)) + torch.rand(5, 4)) / 256
    found = ML(flat).log_likelihood({"x": x}, unit="bits/dim", divided_by=256)
    assert found.mean == pytest.approx(8.0, abs=1e-6)
    assert found.error == pytest.approx(0.0, abs=1e-6)


def test_bits_by_hand():
    """x = (0.45, 0.3) under N(0.4, 0.1²), 17 levels divided by 16: (-log N(0.45) - log N(0.3) + 2 log 16) / (2 log 2)."""
    by_hand = (0.5 * 0.5**2 + 0.5 * 1**2 + 2 * math.log(0.1 * math.sqrt(2 * math.pi)) + 2 * math.log(16)) / (2 * math.log(2))
    assert by_hand == pytest.approx(2.4547, abs=1e-4)
    x = torch.tensor([[0.45, 0.3]]).double()
    assert ML(normal()).log_likelihood({"x": x}, unit="bits/dim", divided_by=16).mean == pytest.approx(by_hand)
    nats = ML(normal()).log_likelihood({"x": x}, divided_by=16).mean
    assert nats == pytest.approx(-by_hand * 2 * math.log(2))


@pytest.mark.parametrize("divided_by", [16.0, 255.0])
def test_the_jacobian_is_that_of_the_model_of_the_whole_numbers(divided_by):
    x = torch.rand(9, 2).double()
    scaled = ML(normal()).log_likelihood({"x": x}, unit="bits/dim", divided_by=divided_by)
    whole = ML(normal(0.4 * divided_by, 0.1 * divided_by)).log_likelihood({"x": x * divided_by}, unit="bits/dim")
    torch.testing.assert_close(scaled.each, whole.each)


def test_bits_of_binary_pixels_count_each_pixel_once():
    probs = nn.Parameter(torch.full((6,), 0.25))
    found = ML(Bernoulli(var=["x"], probs=probs)).log_likelihood({"x": torch.zeros(3, 6)}, unit="bits/dim")
    assert found.mean == pytest.approx(-math.log2(0.75), abs=1e-6)


def test_only_what_is_scored_counts_as_a_dimension():
    """Neither z, which q draws, nor y, which is given."""
    values = digits()
    model = conditional_vae()
    with seeded(0):
        nats = model.log_likelihood(values, num_samples=5).each
    with seeded(0):
        bits = model.log_likelihood(values, num_samples=5, unit="bits/dim").each
    torch.testing.assert_close(bits, -nats / 4 / math.log(2))


@pytest.mark.parametrize("given", ["mapping", "loader of mappings", "loader of tuples"])
def test_evaluation_in_batches_is_that_of_the_whole(given):
    """The last batch is smaller, and counts less."""
    torch.set_default_dtype(torch.float64)
    f = Label()
    x, y = binary(10).double(), labels(10)
    model = ML(f)
    whole = model.test({"x": x, "y": y})
    options = {"batch_size": 4}
    data = {"x": x, "y": y}
    if given == "loader of mappings":
        data, options = [{"x": a, "y": b} for a, b in zip(x.split(4), y.split(4))], {}
    if given == "loader of tuples":
        data, options = DataLoader(TensorDataset(x, y), batch_size=4), {"names": ["x", "y"]}
    found = model.evaluate(data, **options)
    assert found.loss == pytest.approx(whole.item(), abs=1e-12)
    assert found.count == 10


def test_every_term_is_there_under_its_printed_name():
    p, q = Decoder(), Encoder()
    model = Model((Parameter("beta") * KullbackLeibler(q, prior()) - p.log_prob().expectation(q)).mean())
    x = binary(9)
    found = model.evaluate({"x": x, "beta": 0.25}, batch_size=4)
    assert next(iter(found.terms)) == str(model.loss)
    kl = found.terms["KL[q(z|x)||p_prior(z)]"]
    assert kl == pytest.approx(KullbackLeibler(q, prior()).mean().estimate({"x": x}).item(), rel=1e-5)
    assert found.loss == pytest.approx(0.25 * kl - found.terms["E_q(z|x)[log p(x|z)]"], rel=1e-5)
    assert f"{kl:.6g}" in str(found)


def test_the_test_loss_is_evaluated():
    p, q, z = Decoder(), Encoder(), prior()
    model = Model(-ELBO(p * z, q).mean(), KullbackLeibler(q, z).mean())
    x = binary()
    assert model.evaluate({"x": x}).loss == pytest.approx(model.test({"x": x}).item())


def dropout_vae():
    q = Encoder(dropout=0.5)
    model = VAE(q, Decoder(), prior())
    model.loss.train()
    q.drop.eval()  # the user's own choice, deep inside
    return model


CALLS = {
    "sample": lambda m, x: m.sample(3)["x"],
    "infer": lambda m, x: m.infer({"x": x})["z"],
    "reconstruct": lambda m, x: m.reconstruct({"x": x})["x"],
    "log_likelihood": lambda m, x: m.log_likelihood({"x": x}, num_samples=3).each,
    "evaluate": lambda m, x: torch.tensor(m.evaluate({"x": x}).loss),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_modes_gradients_and_draws(call):
    """Evaluation mode inside, every mode as before afterwards; no gradients; the same seed gives the same draws."""
    model = dropout_vae()
    x = binary()
    before = [(m, m.training) for m in model.loss.modules()]
    seen = []
    model.q.register_forward_hook(lambda *_: seen.append(model.q.training))
    for leaf in model.loss.children():
        leaf.register_forward_hook(lambda module, *_: seen.append(module.training))
    with seeded(4):
        a = call(model, x)
    with seeded(4):
        b = call(model, x)
    assert torch.equal(a, b)
    assert not a.requires_grad
    assert seen
    assert not any(seen)
    assert [(m, m.training) for m in model.loss.modules()] == before


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_a_failure_restores_the_modes(call):
    model = dropout_vae()
    with torch.no_grad():
        model.q.loc.bias[0] = math.nan
        model.p.get_submodule("p(x|z)").fc2.bias[0] = math.nan
    before = [(m, m.training) for m in model.loss.modules()]
    with pytest.raises(SupportError):
        call(model, binary())
    assert [(m, m.training) for m in model.loss.modules()] == before


def test_sample_draws_every_variable():
    drawn = VAE(Encoder(), Decoder(), prior()).sample(5)
    assert {v: tuple(t.shape) for v, t in drawn.items()} == {"z": (5, 2), "x": (5, 6)}
    assert set(drawn["x"].unique().tolist()) <= {0.0, 1.0}


def test_sample_with_conditions():
    model = conditional_vae()
    drawn = model.sample(given={"y": labels(6)})
    assert {v: tuple(t.shape) for v, t in drawn.items()} == {"z": (6, 2), "x": (6, 4)}
    z = torch.randn(6, 2)
    assert set(model.sample(given={"y": labels(6), "z": z})) == {"x"}


def test_sample_of_a_mean_is_the_mean_given_what_was_drawn():
    model = conditional_vae()
    drawn = model.sample(given={"y": labels(6)}, mean_of="x")
    with torch.no_grad():
        logits = model.p.get_submodule("p(x|z,y)").fc(torch.cat([drawn["z"], labels(6)], -1))
    torch.testing.assert_close(drawn["x"], logits.sigmoid())


def test_means_of_two_layers_are_means_of_means():
    top = Normal("p(z_2)", loc=nn.Parameter(torch.ones(3)), scale=1.0)
    model = ML(Normal("p(z_1|z_2)", loc=nn.Linear(3, 2), scale=1.0) * top)
    means = model.sample(4, mean_of=["z_1", "z_2"])
    assert torch.equal(means["z_2"], torch.ones(4, 3))
    with torch.no_grad():
        torch.testing.assert_close(means["z_1"], model.p.get_submodule("p(z_1|z_2)").mean({"z_2": torch.ones(4, 3)}))


def test_what_is_marginalised_out_is_drawn_and_not_shown():
    y = Categorical("p(y)", probs=torch.full((3,), 1 / 3))
    p = (Normal("p(x|y)", loc=nn.Linear(3, 2), scale=0.1) * y).marginalize_var("y")
    drawn = ML(p).sample(50, mean_of="x")
    assert set(drawn) == {"x"}
    assert drawn["x"].unique(dim=0).shape == (3, 2)


def test_reconstruct_is_the_mean_of_what_is_below_q():
    """p(y) is above nothing that q draws, so y stays what it is, and is not reconstructed."""
    p = Conditional() * prior(name="p") * Categorical("p(y)", probs=torch.full((3,), 1 / 3))
    model = VI(p, ConditionalEncoder())
    values = digits()
    with seeded(2):
        made = model.reconstruct(values)
    with seeded(2), torch.no_grad():
        z = model.q.sample(values)["z"]
        logits = p.get_submodule("p(x|z,y)").fc(torch.cat([z, values["y"]], -1))
    assert set(made) == {"x"}
    torch.testing.assert_close(made["x"], logits.sigmoid())


def test_both_modalities_are_reconstructed():
    p = Decoder() * Categorical("p(y|z)", logits=nn.Linear(2, 3)) * prior(name="p")
    made = VI(p, Encoder()).reconstruct({"x": binary()})
    assert {v: tuple(t.shape) for v, t in made.items()} == {"x": (5, 6), "y": (5, 3)}


def test_infer_draws_or_takes_means():
    model = VI(Decoder() * prior(), Encoder())
    x = binary()
    assert not torch.equal(model.infer({"x": x})["z"], model.infer({"x": x})["z"])
    with torch.no_grad():
        torch.testing.assert_close(model.infer({"x": x}, mean_of="z")["z"], model.q(x=x)["loc"])


def test_values_go_to_the_device_of_the_model(device):
    model = conditional_vae()
    model.loss.to(device)
    values = digits()
    assert model.sample(given={"y": values["y"]})["x"].device.type == device.type
    assert model.reconstruct(values)["x"].device.type == device.type
    assert model.log_likelihood(values, num_samples=2).each.device.type == "cpu"
    assert model.evaluate(values).count == 7


NO_P = Model(KullbackLeibler(Encoder(), prior()).mean())
P_AND_Q = VI(Decoder() * prior(), Encoder())
X = {"x": torch.zeros(3, 6)}
ERRORS = {
    "no p": (lambda: NO_P.sample(), FormulaError, r"Model knows no generative model p, which sample needs\. .*Model\(\.\.\., p=p\)"),
    "no p, likelihood": (lambda: NO_P.log_likelihood(X), FormulaError, "which log_likelihood needs"),
    "no q": (lambda: ML(Decoder()).infer(X), FormulaError, r'ML knows no inference model q, which infer .*p\.posterior\("z"\)'),
    "p is no distribution": (
        lambda: Model(NLL(Decoder()).mean(), p=nn.ReLU()),
        KindError,
        "Model: p takes a distribution; got a ReLU",
    ),
    "unit": (lambda: P_AND_Q.log_likelihood(X, unit="bits"), KindError, r"unit must be one of 'nats', 'bits/dim'; got 'bits'"),
    "divided_by": (lambda: P_AND_Q.log_likelihood(X, divided_by=0), SupportError, "must be positive; got 0"),
    "empty": (lambda: P_AND_Q.evaluate({"x": torch.zeros(0, 6)}), ShapeError, "VI.evaluate: there are no data"),
    "no batches": (lambda: P_AND_Q.log_likelihood([]), ShapeError, "VI.log_likelihood: there are no data"),
    "batch_size": (lambda: P_AND_Q.evaluate(X, batch_size=0), KindError, "batch_size must be a whole number of at least 1, or None"),
    "a tuple": (lambda: P_AND_Q.evaluate([(torch.zeros(3, 6),)]), KindError, r'got a tuple\. Say which .* names=\["x", "y"\]'),
    "names": (lambda: P_AND_Q.evaluate([(X["x"],)], names=["x", "y"]), ShapeError, r"has 1 tensors, but the names are \['x', 'y'\]"),
    "lengths": (
        lambda: conditional_vae().evaluate({"x": torch.zeros(3, 4), "y": labels(2)}, batch_size=2),
        ShapeError,
        "x has 3 data, y has 2 data, so they cannot be split together",
    ),
    "missing": (lambda: P_AND_Q.evaluate({"X": X["x"]}), MissingVariableError, r"needs x; got \{'X'\}\. Did you mean 'X'"),
    "mean of what is not drawn": (lambda: P_AND_Q.sample(2, mean_of="y"), FormulaError, r"p\(x,z\) draws no y of which to take the mean"),
    "nothing below q": (
        lambda: Model(NLL(Decoder()).mean(), p=Normal("p(u)", loc=0.0, scale=1.0), q=Encoder()).reconstruct(X),
        FormulaError,
        r"reconstruct: nothing of p\(u\) depends on what q\(z\|x\) draws",
    ),
}


@pytest.mark.parametrize(("call", "error", "text"), ERRORS.values(), ids=ERRORS.keys())
def test_errors(call, error, text):
    with pytest.raises(error, match=text):
        call()


def test_a_vae_with_a_regularizer_is_told_its_p():
    q, p = Encoder(), Decoder()
    divergence = KullbackLeibler(q, prior())
    with pytest.raises(FormulaError, match="VAE knows no generative model p"):
        VAE(q, p, regularizer=divergence).sample(2)
    assert VAE(q, p, regularizer=divergence, p=p * prior()).sample(2)["x"].shape == (2, 6)


def test_what_is_computed_is_made_again_too():
    f = Deterministic("f(h|z)", h=nn.Linear(2, 3))
    p = Normal("p(x|h)", loc=nn.Linear(3, 6), scale=1.0) * f * prior(name="p")
    made = VI(p, Encoder()).reconstruct(X)
    assert made["x"].shape == (3, 6)
