"""Formulas in text, Unicode and LaTeX."""

import pytest
import torch
from torch import nn
from zoo import Decoder, Encoder, Label, prior

from pixyz.core import KindError, Loss
from pixyz.distributions import Deterministic, Normal
from pixyz.losses import ELBO, NLL, KullbackLeibler, LogProb, Parameter

P, Q, PRIOR, F = Decoder(), Encoder(), prior(), Label()
JOINT = P * PRIOR
ELBO_ = ELBO(JOINT, Q)
KL = KullbackLeibler(Q, PRIOR)
BETA = Parameter("beta")

CASES = {
    "log_prob": (LogProb(P), "log p(x|z)", "log p(x|z)", r"\log p(x|z)"),
    "joint": (JOINT.log_prob(), "log p(x,z)", "log p(x,z)", r"\log p(x,z)"),
    "nll": (NLL(F), "-log p(y|x)", "−log p(y|x)", r"-\log p(y|x)"),
    "scaled nll": (0.1 * NLL(F), "0.1 * (-log p(y|x))", "0.1 · (−log p(y|x))", r"0.1 \cdot \left(-\log p(y|x)\right)"),
    "nll scaled": (F.log_prob() * 0.1, "log p(y|x) * 0.1", "log p(y|x) · 0.1", r"\log p(y|x) \cdot 0.1"),
    "elbo": (
        ELBO_,
        "E_q(z|x)[log p(x,z)/q(z|x)]",
        "𝔼_q(z|x)[log p(x,z)/q(z|x)]",
        r"\mathbb{E}_{q(z|x)}\left[\log \frac{p(x,z)}{q(z|x)}\right]",
    ),
    "minus mean": (
        -ELBO_.mean(),
        "-mean(E_q(z|x)[log p(x,z)/q(z|x)])",
        "−mean(𝔼_q(z|x)[log p(x,z)/q(z|x)])",
        r"-\mathrm{mean}\left(\mathbb{E}_{q(z|x)}\left[\log \frac{p(x,z)}{q(z|x)}\right]\right)",
    ),
    "kl": (
        KL,
        "KL[q(z|x)||p_prior(z)]",
        "KL[q(z|x) ‖ p_prior(z)]",
        r"D_{\mathrm{KL}}\left[q(z|x) \,\middle\|\, p_{\mathrm{prior}}(z)\right]",
    ),
    "kl by sampling": (
        KullbackLeibler(Q, PRIOR, analytic=False),
        "E_q(z|x)[log q(z|x)/p_prior(z)]",
        "𝔼_q(z|x)[log q(z|x)/p_prior(z)]",
        r"\mathbb{E}_{q(z|x)}\left[\log \frac{q(z|x)}{p_{\mathrm{prior}}(z)}\right]",
    ),
    "beta": (BETA * KL, "beta * KL[q(z|x)||p_prior(z)]", "β · KL[q(z|x) ‖ p_prior(z)]", None),
    "sum": (KL + NLL(F) - 2, "KL[q(z|x)||p_prior(z)] - log p(y|x) - 2", None, None),
    "minus a sum": (KL - (KL + BETA), "KL[q(z|x)||p_prior(z)] - (KL[q(z|x)||p_prior(z)] + beta)", None, None),
    "a sum added": (KL + (BETA - 1), "KL[q(z|x)||p_prior(z)] + beta - 1", None, None),
    "minus of a sum": (-(BETA + 1), "-(beta + 1)", None, None),
    "minus minus": (-(-BETA), "-(-beta)", None, None),
    "product of sums": ((BETA + 1) * (BETA - 1), "(beta + 1) * (beta - 1)", None, None),
    "a product of three": (BETA * 2 * KL, "beta * 2 * KL[q(z|x)||p_prior(z)]", None, None),
    "log ratio times": (0.5 * ELBO_.parts[1], "0.5 * (log p(x,z)/q(z|x))", None, r"0.5 \cdot \log \frac{p(x,z)}{q(z|x)}"),
    "log quotient": (F.log_prob() / 2, "(log p(y|x))/2", "(log p(y|x))/2", r"\frac{\log p(y|x)}{2}"),
    "quotient": (BETA / (2 * KL), "beta/(2 * KL[q(z|x)||p_prior(z)])", None, r"\frac{\beta}{2 \cdot D"),
    "quotient of a sum": ((1 - BETA) / 2, "(1 - beta)/2", None, r"\frac{1 - \beta}{2}"),
    "negative number": (BETA * -0.5, "beta * (-0.5)", None, None),
    "small number": (1e-07 * BETA, "1e-07 * beta", None, r"1 \cdot 10^{-7} \cdot \beta"),
    "tensor": (torch.tensor(0.25) * BETA, "0.25 * beta", None, None),
    "weights": (torch.ones(3) * KL, "tensor * KL[q(z|x)||p_prior(z)]", None, None),
    "total": (KL.sum(), "sum(KL[q(z|x)||p_prior(z)])", None, None),
    "nested": (
        F.log_prob().expectation(F).expectation(Q.replace_var(x="w", z="x")),
        "E_q(x|w)[E_p(y|x)[log p(y|x)]]",
        None,
        None,
    ),
}


@pytest.mark.parametrize(("loss", "text", "unicode", "latex"), CASES.values(), ids=CASES)
def test_a_loss_prints_as_mathematics(loss, text, unicode, latex):
    assert str(loss) == text
    assert repr(loss) == text
    if unicode is not None:
        assert loss.unicode() == unicode
    if latex is not None:
        assert loss.latex().startswith(latex)
        assert loss._repr_latex_() == f"$${loss.latex()}$$"


class Said(Loss):
    """A loss that says its formula in words."""

    def __init__(self):
        super().__init__([], input_var=["x"])

    @property
    def formula(self):
        return "f(x)"

    def evaluate(self, scope):
        return scope.evaluate(Parameter("x"))


def test_a_formula_in_words_is_an_error():
    with pytest.raises(KindError, match=r"A formula is made of the classes in pixyz\.core\.formula; got a str: 'f\(x\)'\."):
        str(Said())


def test_brackets_open_and_close_in_latex():
    for loss, *_ in CASES.values():
        text = loss.latex()
        assert text.count("{") == text.count("}")
        assert text.count(r"\left") == text.count(r"\right")


def test_single_distribution_prints_with_its_architecture():
    assert str(P) == (
        "Distribution:\n"
        "  p(x|z) (Bernoulli)\n"
        "Network architecture:\n"
        "  Decoder(\n"
        "    (fc1): Linear(in_features=2, out_features=8, bias=True)\n"
        "    (fc2): Linear(in_features=8, out_features=6, bias=True)\n"
        "  )"
    )


def test_joint_prints_with_its_architecture():
    assert str(JOINT) == (
        "Distribution:\n"
        "  p(x,z) = p(x|z)p_prior(z)\n"
        "Network architecture:\n"
        "  p_prior(z) (Normal): Normal(loc=0, scale=1)\n"
        "  p(x|z) (Bernoulli): Decoder(\n"
        "    (fc1): Linear(in_features=2, out_features=8, bias=True)\n"
        "    (fc2): Linear(in_features=8, out_features=6, bias=True)\n"
        "  )"
    )


def test_renamed_marginal_and_swapped_products():
    assert "  p(x_u|z) (Bernoulli): Decoder(" in str(P.replace_var(x="x_u"))
    assert str(P.replace_var(x="x_u")).splitlines()[1] == "  p(x_u|z)"
    assert str(PRIOR * P).splitlines()[1] == "  p(z,x) = p_prior(z)p(x|z)"
    marginal = JOINT.marginalize_var("z")
    assert str(marginal).splitlines()[1] == "  p(x) = ∫p(x|z)p_prior(z)dz"
    assert marginal.latex() == r"p(x) = \int p(x|z)p_{\mathrm{prior}}(z)\,\mathrm{d}z"
    assert marginal.unicode() == "p(x) = ∫p(x|z)p_prior(z) dz"


@pytest.mark.parametrize(
    ("name", "unicode", "latex"),
    [
        ("x_u", "x_u", "x_{u}"),
        ("theta", "θ", r"\theta"),
        ("theta_u", "θ_u", r"\theta_{u}"),
        ("h_prev", "h_prev", r"h_{\mathrm{prev}}"),
        ("Omega", "Ω", r"\Omega"),
        ("x'", "x'", "x'"),
        ("image", "image", r"\mathrm{image}"),
        ("x1", "x1", "x_{1}"),
        ("theta2_u", "θ2_u", r"\theta_{2,u}"),
        ("image2", "image2", r"\mathrm{image2}"),
        ("z_{t+1}", "z_{t+1}", "z_{t+1}"),
        ("z_{t+1}'", "z_{t+1}'", "z_{t+1}'"),
        ("z_{1,2}", "z_{1,2}", "z_{1,2}"),
        ("z_a_{t-1}", "z_a_{t-1}", "z_{a,t-1}"),
        ("theta_{k}", "θ_{k}", r"\theta_{k}"),
        ("p_{theta}", "p_{θ}", r"p_{\theta}"),
        ("h_{prev}", "h_{prev}", r"h_{\mathrm{prev}}"),
        ("x_{<t}", "x_{<t}", "x_{<t}"),
        ("x_{1:T}", "x_{1:T}", "x_{1:T}"),
        ("z_{t_0+1}", "z_{t_0+1}", "z_{t_{0}+1}"),
    ],
)
def test_names_print_as_in_papers(name, unicode, latex):
    p = Normal(var=["z"], loc=0.0, scale=1.0).replace_var(z=name)
    assert p.unicode() == f"p({unicode})"
    assert p.latex() == f"p({latex})"


def test_the_name_of_a_joint_is_its_factors_common_name():
    assert (Q.replace_var(z="w") * Q).prob_text == "q(w,z|x)"
    assert (Q * F).prob_text == "p(z,y|x)"


def test_what_is_computed_has_no_say_in_the_name_of_a_joint():
    h, k = Deterministic("f(h|z,x)", h="z"), Deterministic("g(k|h)", k="h")
    assert ((Q * h).prob_text, (h * Q).prob_text) == ("q(z,h|x)", "q(h,z|x)")
    assert (Q * h * k).replace_var(k="m").prob_text == "q(z,h,m|x)"
    assert (h * h.replace_var(h="m")).prob_text == "f(h,m|z,x)"
    assert (h * k).prob_text == "p(h,k|z,x)"


def test_what_is_computed_of_hidden_draws_has_its_own_name():
    z, w = [Normal(f"p_prior({v})", loc=0.0, scale=1.0) for v in "zw"]
    generator = (Deterministic("g(x|z)", x="z") * z).marginalize_var("z")
    assert generator.prob_text == "g(x)"
    assert (Deterministic("g(y|x)", y="x") * generator).marginalize_var("x").prob_text == "g(y)"
    assert (generator * w).prob_text == "p(x,w)"


def test_a_network_with_children_prints_them_all():
    class Deep(Normal):
        def __init__(self):
            super().__init__(var=["z"], cond_var=["x"])
            self.net = nn.Sequential(nn.Linear(2, 3), nn.ReLU())

        def forward(self, x):
            return {"loc": self.net(x), "scale": 1.0}

    assert "(0): Linear(in_features=2, out_features=3, bias=True)" in str(Deep())
