"""Random formulas of every world against their truth; `nox -s fuzz` tries many more."""

import math
import re
from pathlib import Path

import formulas
import planted
import pytest
import torch
from formulas.checked import DisagreementError, check
from formulas.run import Run
from formulas.worlds import worlds
from planted import changed, given

import pixyz.losses
from pixyz.core import Expectation, LogProb, Loss, Mean, Term
from pixyz.distributions import Bernoulli, Categorical, Normal
from pixyz.losses import KullbackLeibler, Renyi

EXAMPLES = 300
FORMULAS = Path(formulas.__file__).parent

WITHOUT_A_TRUTH = {
    "Loss": "the parent of all",
    "Estimator": "the parent of all estimators",
    "Commitment": "it is the squared distance from what a VectorQuantizer chose, whose gradient is borrowed",
    "Pathwise": 'it has no options: formulas name it "pathwise"',
    "Sample": 'it has no options: formulas name it "sample"',
    "StoppedLogProb": "a part of StickingTheLanding and of DReG, which are drawn",
}
"""What no world makes, and why."""


def test_random_formulas_have_their_values_and_gradients():
    run = Run(seed=0, compiles=False, shrinks=False)
    run.until(EXAMPLES, quiet=True)
    print(run.summary())
    assert run.done == EXAMPLES
    assert run.state["disagreements"] == []


def test_every_loss_and_operator_stands_in_some_world():
    """Names that a module imports, it uses: the linter sees to that."""
    texts = [path.read_text("utf-8") for path in FORMULAS.rglob("*.py")]
    used = {name for text in texts for name in re.findall(r"\b\w+\b", text)}
    assert set(pixyz.losses.__all__) - used - set(WITHOUT_A_TRUTH) == set()
    assert set(WITHOUT_A_TRUTH) <= set(pixyz.losses.__all__)
    methods = set(re.findall(r"\.(\w+)\(", "".join(texts)))
    assert {"exp", "log", "detach", "clamp", "mean", "sum", "expectation", "constant_var", "from_function", "log_prob"} - methods == set()
    assert {"marginalize_var", "posterior", "replace_var", "condition"} - methods == set()


def test_a_compiled_formula_is_compared_too(monkeypatch):
    torch.set_default_dtype(torch.float64)
    case = worlds()["powers"].Power(seed=1, power=2, batch=2, drawn=False)
    check(case, compiled=True)
    planted.planted(
        monkeypatch, Loss, "compile", lambda f: lambda self, **options: setattr(self, "estimate", lambda v: 2 * Loss.estimate(self, v))
    )
    with pytest.raises(DisagreementError, match="the value differs"):
        check(case, compiled=True)


def test_known_faults_are_still_there():
    """As soon as one is mended, this fails: then take it from the world's FAULTS, and let its strategy make such formulas."""
    torch.set_default_dtype(torch.float64)
    mended = []
    for name, world in worlds().items():
        for fault in getattr(world, "FAULTS", ()):
            try:
                check(fault.case, rejections=getattr(world, "REJECTIONS", ()), ignored=getattr(world, "WARNINGS", ()))
            except DisagreementError:
                continue
            mended.append(f"{name}: {fault.reason}")
    assert mended == []


def times_batch(f):
    def fault(self, scope):
        tensor, dims = f(self, scope)
        return Term(tensor * scope.batch, dims)

    return fault


def reversed_parents(*arguments, **options):
    if arguments and "|" in arguments[0]:
        head, parents = arguments[0].rstrip(")").split("|")
        return (f"{head}|{','.join(reversed(parents.split(',')))})", *arguments[1:]), options
    return arguments, options


PLANTED = {
    "a lost minus": ("finite", changed(Loss, "__neg__", lambda f: lambda self: 1 * self)),
    "a factor for the batch": ("finite", changed(Mean, "evaluate", times_batch)),
    "a gradient that is dropped": (
        "finite",
        changed(Categorical, "log_density", lambda f: lambda params, x: f({k: v.detach() for k, v in params.items()}, x)),
    ),
    "a mask that is ignored": ("finite", given(LogProb, lambda *a, **o: (a, {**o, "mask": None}))),
    "swapped parents": ("finite", given(Bernoulli, reversed_parents)),
    "an entropy in bits": ("finite", changed(Categorical, "entropy_of", lambda f: lambda params: f(params) / math.log(2))),
    "a divergence of swapped sides": ("finite", given(KullbackLeibler, lambda q, p, **o: ((p, q), o))),
    "another order": ("finite", given(Renyi, lambda p, q, alpha, **o: ((p, q, 1.01 * alpha), o))),
    "a stop that stops nothing": ("finite", changed(Loss, "detach", lambda f: lambda self: self)),
    "a sum for a mean": ("finite", changed(Loss, "mean", lambda f: lambda self: self.sum())),
    "draws without a gradient": ("estimators", given(Expectation, lambda *a, **o: (a, {**o, "estimator": "sample"}))),
    "a lost half": ("gaussian", changed(Normal, "log_density", lambda f: lambda params, x: f(params, x) - 0.5 * params["scale"].log())),
}


@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_fault_is_found(fault, monkeypatch):
    world, plant = PLANTED[fault]
    plant(monkeypatch)
    run = Run(seed=0, names=(world,), compiles=False, shrinks=False)
    run.until(EXAMPLES, quiet=True, stop_at_first=True)
    print(run.summary())
    assert run.state["disagreements"]
