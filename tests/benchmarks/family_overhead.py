"""What a family costs: sampling and scoring through Pixyz, against building the `torch.distributions` object and calling it.

    python tests/benchmarks/family_overhead.py                        # half a minute; needs torch and this repository's packages
    python tests/benchmarks/family_overhead.py --only Gamma Normal    # these families

Both are given the same parameter tensors, and both check them: `validate_args=True` on their side, eager mode on ours. Ours is a
conditional whose parameters come in by name, without a network: `Gamma("p(x|a,b)", concentration="a", rate="b")`. Theirs is built anew for
every call, as a `forward` that returns one does. A density is summed over the features, and checked to be the same. Every round takes one
call of each, in a new order, on one thread; a run is the median over its rounds, and the table shows the median of the runs. The bound is
printed, and never asserted: a clock is no test. Run it where nothing else runs.
"""

import argparse
import random
import statistics
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
import torch.distributions as td
from interleaved import WARM_UP, Step, interleave
from torch import Tensor

import pixyz.distributions as families

BATCH, FEATURES, EVENT = 128, 64, 16
BOUND = 1.3  # for each family
COMMON = {"Normal": 1.0, "Bernoulli": 1.0, "Categorical": 1.0, "Laplace": 1.0}
MARGIN = 1e-2  # relative; float32 densities of two formulas, of which torch.distributions has 1 - x^a by subtraction


class Case(NamedTuple):
    """A family with tensors as parameters, its counterpart, and what both take as constants."""

    family: type[families.Family]
    counterpart: Callable[..., td.Distribution]
    params: dict[str, Tensor]
    constants: dict[str, Any] = {}

    @property
    def text(self) -> str:
        return f"{self.family.distribution_name}({', '.join(self.params)})"

    def ours(self) -> families.Family:
        names = {name: f"{name[0]}_{i}" for i, name in enumerate(self.params)}
        return self.family(var=["x"], cond_var=list(names.values()), **names, **self.constants)

    def theirs(self) -> td.Distribution:
        return self.counterpart(**self.params, **self.constants, validate_args=True)


def cases() -> Iterator[Case]:
    torch.manual_seed(0)
    real, positive, unit = torch.randn(BATCH, FEATURES), torch.rand(BATCH, FEATURES) + 0.5, 0.1 + 0.8 * torch.rand(BATCH, FEATURES)
    more, trials = positive + 1, torch.full((BATCH, FEATURES), 10.0)
    scores, weights = torch.randn(BATCH, EVENT), torch.randn(BATCH, EVENT).softmax(-1)
    tril = torch.randn(BATCH, EVENT, EVENT).tril(-1) * 0.1 + torch.diag_embed(torch.rand(BATCH, EVENT) + 0.5)

    for name in ("Normal", "Laplace", "Cauchy", "Gumbel", "LogNormal"):
        yield Case(getattr(families, name), getattr(td, name), {"loc": real, "scale": positive})
    yield Case(families.StudentT, td.StudentT, {"df": more, "loc": real, "scale": positive})
    yield Case(families.Uniform, td.Uniform, {"low": real, "high": real + positive})
    yield Case(families.VonMises, td.VonMises, {"loc": real, "concentration": positive})
    yield Case(families.HalfNormal, td.HalfNormal, {"scale": positive})
    yield Case(families.Exponential, td.Exponential, {"rate": positive})
    for name in ("Gamma", "InverseGamma"):
        yield Case(getattr(families, name), getattr(td, name), {"concentration": more, "rate": positive})
    yield Case(families.Weibull, td.Weibull, {"scale": positive, "concentration": more})
    yield Case(families.Pareto, td.Pareto, {"scale": positive, "alpha": more})
    for name in ("Beta", "Kumaraswamy"):
        yield Case(getattr(families, name), getattr(td, name), {"concentration1": more, "concentration0": positive})
    for name in ("Bernoulli", "ContinuousBernoulli", "Geometric"):
        yield Case(getattr(families, name), getattr(td, name), {"probs": unit})
        yield Case(getattr(families, name), getattr(td, name), {"logits": real})
    yield Case(families.Poisson, td.Poisson, {"rate": more})
    for name in ("Binomial", "NegativeBinomial"):
        yield Case(getattr(families, name), getattr(td, name), {"total_count": trials, "probs": unit})
        yield Case(getattr(families, name), getattr(td, name), {"total_count": trials, "logits": real})
    temperature = {"temperature": torch.tensor(0.7)}
    yield Case(families.RelaxedBernoulli, td.RelaxedBernoulli, {"probs": unit}, temperature)
    yield Case(families.RelaxedBernoulli, td.RelaxedBernoulli, {"logits": real}, temperature)
    for name, counterpart, constants in (
        ("Categorical", td.OneHotCategorical, {}),
        ("CategoricalIndex", td.Categorical, {}),
        ("RelaxedCategorical", td.RelaxedOneHotCategorical, temperature),
        ("Multinomial", td.Multinomial, {"total_count": 10}),
    ):
        yield Case(getattr(families, name), counterpart, {"probs": weights}, constants)
        yield Case(getattr(families, name), counterpart, {"logits": scores}, constants)
    yield Case(families.Dirichlet, td.Dirichlet, {"concentration": torch.rand(BATCH, EVENT) + 0.5})
    yield Case(families.MultivariateNormal, td.MultivariateNormal, {"loc": scores, "scale_tril": tril})
    yield Case(families.MultivariateNormal, td.MultivariateNormal, {"loc": scores, "covariance_matrix": tril @ tril.mT})
    low_rank = {"loc": scores, "cov_factor": torch.randn(BATCH, EVENT, 4), "cov_diag": torch.rand(BATCH, EVENT) + 0.5}
    yield Case(families.LowRankMultivariateNormal, td.LowRankMultivariateNormal, low_rank)


def steps_of(case: Case) -> dict[str, Step]:
    """One call of each kind; stops if both do not score alike."""
    p = case.ours()
    given = dict(zip(p.cond_var, case.params.values(), strict=True))
    pathwise = case.theirs().has_rsample
    x = p.sample(given)["x"]
    # Not of rank 1: the features of a family of numbers are summed by the caller of torch.distributions.
    is_scalar = case.theirs().log_prob(x).ndim > 1

    def our_draw() -> Tensor:
        return p.sample(given)["x"]

    def their_draw() -> Tensor:
        return case.theirs().rsample() if pathwise else case.theirs().sample()

    def our_density() -> Tensor:
        return p.log_likelihood({"x": x, **given})

    def their_density() -> Tensor:
        log_density = case.theirs().log_prob(x)
        return log_density.sum(-1) if is_scalar else log_density

    off = ((our_density() - their_density()) / their_density().abs().clamp_min(1)).abs().max().item()
    if not off < MARGIN or our_draw().shape != their_draw().shape:
        raise SystemExit(f"{case.text}: Pixyz and torch.distributions do not score alike; they differ by {off:.1e}, relatively.")
    return {"our draw": our_draw, "their draw": their_draw, "our density": our_density, "their density": their_density}


def measure(case: Case, *, runs: int, repeats: int) -> dict[str, float]:
    """The median microseconds of each kind of call."""
    shuffler = random.Random(0)
    steps = steps_of(case)
    for step in steps.values():
        for _ in range(WARM_UP):
            step()
    medians = [interleave(steps, repeats=repeats, shuffler=shuffler) for _ in range(runs)]
    return {name: statistics.median(m[name] for m in medians) for name in steps}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, help="how often each family is measured")
    parser.add_argument("--repeats", type=int, default=200, help="rounds in a run")
    parser.add_argument("--only", nargs="+", metavar="FAMILY", help="these families, by name")
    args = parser.parse_args()
    torch.set_num_threads(1)
    wide = max(len(case.text) for case in cases())
    head = "".join(f"{word:>18}{'':>9}" for word in ("a draw", "log-density"))
    print(f"torch {torch.__version__}, 1 thread, {BATCH} × {FEATURES} numbers or {BATCH} × {EVENT} vectors; µs, and their ratio\n")
    print(f"{'':{wide}}{head}\n{'':{wide}}" + f"{'pixyz':>9}{'torch':>9}{'ratio':>9}" * 2)
    above = []
    for case in cases():
        if args.only and case.family.distribution_name not in args.only:
            continue
        µs, line = measure(case, runs=args.runs, repeats=args.repeats), ""
        for what in ("draw", "density"):
            ours, theirs = µs[f"our {what}"], µs[f"their {what}"]
            bound = COMMON.get(case.family.distribution_name, BOUND)
            mark = "!" if ours / theirs > bound else " "
            line += f"{ours:>9.0f}{theirs:>9.0f}{ours / theirs:>8.2f}{mark}"
            if mark == "!":
                above.append(f"{case.text} {what} {ours / theirs:.2f} > {bound}")
        print(f"{case.text:{wide}}{line}".rstrip(), flush=True)
    print(f"\nabove the bound of {BOUND}, or 1 for {', '.join(COMMON)}: {'; '.join(above) or 'none'}")


if __name__ == "__main__":
    main()
