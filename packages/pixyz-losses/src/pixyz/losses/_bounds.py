"""Bounds on the log-likelihood."""

from torch import Tensor

from pixyz.core import (
    AnyEstimator,
    Distribution,
    Expectation,
    FormulaError,
    IntractableError,
    Joint,
    LogProb,
    Loss,
    SupportError,
    estimator_for,
    need_distribution,
    need_finite,
    need_one_measure,
)

from ._divergences import KullbackLeibler
from ._log_ratio import LogRatio

KINDS_OF_KL = ("sample", "analytic", "auto")


def ELBO(
    p: Distribution,
    q: Distribution,
    *,
    num_samples: int = 1,
    estimator: AnyEstimator = "auto",
    kl: str = "sample",
    beta: Loss | Tensor | float = 1.0,
    free_bits: float = 0.0,
) -> Loss:
    r"""The evidence lower bound, in nats, `(batch,)`, one lower bound for each datum:

    $$\mathbb{E}_{q(z|x)}\left[\log \frac{p(x,z)}{q(z|x)}\right]
    = \mathbb{E}_{q(z|x)}\left[\log p(x|z)\right] - D_{\mathrm{KL}}[q(z|x)\|p(z)] \le \log p(x)$$

    It prints in the form that is run. The first, whose draws stand in all terms, has no variance at the exact posterior; the second has a
    divergence in closed form, and less variance where q is far from it.

    Args:
        p: the generative model p(x,z).
        q: the inference model q(z|x), over latent variables of `p`, or over what `p` depends on, whose prior is then flat. What q computes
            is no latent variable: it stands in both densities, or in neither.
        num_samples: K, how many draws are averaged.
        estimator: as in `Expectation`.
        kl: `"sample"` for the first form; `"analytic"` for the second, if the divergence has a closed form; `"auto"` for the second if it
            has one, else the first.
        beta: β, what the divergence in the second form is multiplied with: a number, a tensor or a `Parameter`. For β other than 1, a
            divergence without closed form is sampled.
        free_bits: λ, in nats: the divergence in the second form counts as λ where it is less, so that nothing is gained by less of it.

    Raises:
        FormulaError: if q draws something that p does not have, or all that it has and depends on, or if β or λ needs a prior that p
            does not have.
        KindError: if β or λ is no finite number.
        SupportError: for a negative λ.
        IntractableError: for `kl="analytic"`, if the divergence has no closed form.

    Source:
        Kingma and Welling (2014), eq. 2 and 3, https://arxiv.org/abs/1312.6114; for β, Higgins et al. (2017),
        https://openreview.net/forum?id=Sy2fzU9gl; for λ, Kingma et al. (2016), eq. 15, https://arxiv.org/abs/1606.04934

    Examples:
        >>> from pixyz.distributions import Normal
        >>> q, p = Normal("q(z|x)", loc="x", scale=1.0), Normal("p(x|z)", loc="z", scale=2.0) * Normal("p(z)", loc=0.0, scale=1.0)
        >>> print(ELBO(p, q))
        E_q(z|x)[log p(x,z)/q(z|x)]
        >>> print(ELBO(p, q, kl="analytic", beta=4))
        E_q(z|x)[log p(x|z)] - 4 * KL[q(z|x)||p(z)]
    """
    p, scored = sides_of_bound(p, q, "ELBO")
    if kl not in KINDS_OF_KL:
        raise FormulaError(f"ELBO: kl must be one of {', '.join(map(repr, KINDS_OF_KL))}; got {kl!r}.")
    need_finite(free_bits, "free_bits", "ELBO")
    if not isinstance(beta, (Loss, Tensor)):
        need_finite(beta, "beta", "ELBO")
    if free_bits < 0:
        raise SupportError(f"ELBO: free_bits must be 0 or more nats; got {free_bits!r}.")
    unweighted = isinstance(beta, (int, float)) and beta == 1
    plain = unweighted and free_bits == 0
    if kl == "sample" and plain:
        return Expectation(q, LogRatio(p, scored), num_samples=num_samples, estimator=estimator)
    likelihood, prior = split_prior(p, scored)
    chosen = estimator_for(estimator, scored.defined, q.defined, f"E_{q.prob_text}")
    divergence = KullbackLeibler(scored, prior, num_samples=num_samples, estimator=chosen, analytic=kl != "sample")
    if kl == "analytic" and not divergence.is_analytic:
        raise IntractableError(f"ELBO: KL[{scored.prob_text}||{prior.prob_text}] has no closed form here; use kl='sample' or kl='auto'.")
    if plain and not divergence.is_analytic:
        return Expectation(q, LogRatio(p, scored), num_samples=num_samples, estimator=estimator)
    # Where the divergence is drawn as well, over the same distribution, so that both have one draw.
    over, by = (q, estimator) if divergence.is_analytic else (scored, chosen)
    reconstruction = Expectation(over, LogProb(likelihood), num_samples=num_samples, estimator=by)
    counted = divergence.clamp(min=free_bits) if free_bits else divergence
    return reconstruction - (counted if unweighted else beta * counted)


def IWAE(p: Distribution, q: Distribution, *, num_samples: int, estimator: AnyEstimator = "auto") -> Loss:
    r"""The importance-weighted bound, in nats, `(batch,)`: tighter than the ELBO the more draws there are, and the ELBO for K = 1.

    $$\mathbb{E}_{z_1,\ldots,z_K \sim q(z|x)}\left[\log\frac{1}{K}\sum_{k=1}^K\frac{p(x,z_k)}{q(z_k|x)}\right] \le \log p(x)$$

    Enumerated variables are not drawn: the bound sums over them outside of the mean of the K draws, or inside of it where they depend on a
    drawn variable. If all of q is enumerated, the bound is the ELBO for every K; `estimator="score"` draws the variables instead.

    Args:
        p: the generative model p(x,z).
        q: the inference model q(z|x).
        num_samples: K.
        estimator: as in `Expectation`; score gradients have the baseline of VIMCO.

    Raises:
        FormulaError: as `ELBO`.

    Source:
        Burda et al. (2016), eq. 8, https://arxiv.org/abs/1509.00519

    Examples:
        >>> from pixyz.distributions import Normal
        >>> q, p = Normal(var=["z"], loc=0.0, scale=1.0, name="q"), Normal(var=["z"], loc=0.0, scale=2.0)
        >>> print(IWAE(p, q, num_samples=8))
        E_q(z)^8[log mean(p(z)/q(z))]
    """
    p, scored = sides_of_bound(p, q, "IWAE")
    return Expectation(q, LogRatio(p, scored), num_samples=num_samples, estimator=estimator, aggregate="log_mean_exp")


def RenyiBound(p: Distribution, q: Distribution, alpha: float, *, num_samples: int, estimator: AnyEstimator = "auto") -> Loss:
    r"""The variational Rényi bound, in nats, `(batch,)`: the ELBO for α → 1, the importance-weighted bound for α = 0.

    $$\mathbb{E}_{z_1,\ldots,z_K \sim q(z|x)}\left[\frac{1}{1-\alpha}
    \log\frac{1}{K}\sum_{k=1}^K\left(\frac{p(x,z_k)}{q(z_k|x)}\right)^{1-\alpha}\right]$$

    At every K it falls as α grows; for α ≥ 0 it is a lower bound on log p(x), for α < 0 only at small K.

    Args:
        p: the generative model p(x,z).
        q: the inference model q(z|x).
        alpha: α, any finite number.
        num_samples: K.
        estimator: as in `Expectation`.

    Raises:
        FormulaError: as `ELBO`.
        KindError: if α is no finite number.

    Source:
        Li and Turner (2016), eq. 5, https://arxiv.org/abs/1602.02311
    """
    p, scored = sides_of_bound(p, q, "RenyiBound")
    return Expectation(q, LogRatio(p, scored), num_samples=num_samples, estimator=estimator, aggregate=alpha)


def split_prior(p: Distribution, q: Distribution) -> tuple[Distribution, Distribution]:
    """The factors of p over what q does not draw, and those over what it draws.

    Raises:
        FormulaError: if there are none of either.
    """
    drawn = set(q.var)
    prior = [f for f in p.factors if drawn.issuperset(f.var)]
    rest = [f for f in p.factors if drawn.isdisjoint(f.var)]
    if p.hidden_var or not rest or {v for f in prior for v in f.var} != drawn:
        raise FormulaError(
            f"{p.prob_text} is no likelihood times a prior over {', '.join(q.var)}, so there is no KL[{q.prob_text}||...] in it; "
            "use kl='sample' and beta=1."
        )
    return Joint(rest), Joint(prior)


def sides_of_bound(p: Distribution, q: Distribution, who: str) -> tuple[Distribution, Distribution]:
    """The densities that a bound compares: p, with whatever q computes for it, and q without what it computes for neither.

    Raises:
        FormulaError: unless q draws some, not all, of what p is over or depends on.
    """
    need_distribution(p, who)
    need_distribution(q, who)
    computed = [x for x in q.ancestral if x.dist.is_deterministic and p.defined.union(q.hidden_var).isdisjoint(x.var)]
    needed = {c for x in (*p.factors, *q.factors) if x not in computed for c in x.cond_var}
    idle = []
    for x in reversed(computed):
        if needed.isdisjoint(x.var):
            idle.append(x)
        else:
            needed.update(x.cond_var)
    scored = Joint([x for x in q.factors if x not in idle], q.hidden_var) if 0 < len(idle) < len(q.factors) else q
    shared = [x for x in computed if x not in idle]
    need_one_measure((p.factors, scored.factors), [v for v in p.var if v in scored.var], f"{who}({p.prob_text}, {q.prob_text})")
    known = {*p.var, *p.cond_var, *(v for x in shared for v in x.var)}
    unknown = [v for v in scored.var if v not in known]
    if unknown:
        raise FormulaError(
            f"{who}: {q.prob_text} draws {', '.join(unknown)}, of which {p.prob_text} knows nothing. The order is {who}(p, q)."
        )
    if set(p.var).issubset(scored.var) and not set(p.cond_var).isdisjoint(scored.var):
        raise FormulaError(f"{who}: {q.prob_text} draws all of {p.prob_text}, so nothing is observed. The order is {who}(p, q).")
    return (p * Joint(shared) if shared else p), scored
