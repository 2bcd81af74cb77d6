"""Bounds on the log-likelihood."""

from collections.abc import Mapping

from pixyz.core import Distribution, Expectation, FormulaError, Loss, need_distribution

from ._log_ratio import LogRatio


def ELBO(p: Distribution, q: Distribution, *, num_samples: int = 1, estimator: str | Mapping[str, str] = "auto") -> Loss:
    r"""The evidence lower bound, in nats, `(batch,)`, one lower bound for each datum:

    $$\mathbb{E}_{q(z|x)}\left[\log \frac{p(x,z)}{q(z|x)}\right] \le \log p(x)$$

    Args:
        p: the generative model p(x,z).
        q: the inference model q(z|x), over latent variables of `p`, or over what `p` depends on, whose prior is then flat.
        num_samples: K, how many draws are averaged.
        estimator: as in `Expectation`.

    Raises:
        FormulaError: if q draws something that p does not have, or all that it has and depends on.

    Source:
        Kingma and Welling (2014), eq. 2, https://arxiv.org/abs/1312.6114

    Examples:
        >>> from pixyz.distributions import Normal
        >>> q, p = Normal(var=["z"], loc=0.0, scale=1.0, name="q"), Normal(var=["z"], loc=0.0, scale=2.0)
        >>> print(ELBO(p, q))
        E_q(z)[log p(z)/q(z)]
    """
    need_distribution(p, "ELBO")
    need_distribution(q, "ELBO")
    drawn, observed = set(q.var), set(p.var).difference(q.var)
    unknown = [v for v in q.var if v not in (*p.var, *p.cond_var)]
    if unknown:
        raise FormulaError(
            f"ELBO: {q.prob_text} draws {', '.join(unknown)}, of which {p.prob_text} knows nothing. The order is ELBO(p, q)."
        )
    if not observed and drawn.intersection(p.cond_var):
        raise FormulaError(f"ELBO: {q.prob_text} draws all of {p.prob_text}, so nothing is observed. The order is ELBO(p, q).")
    return Expectation(q, LogRatio(p, q), num_samples=num_samples, estimator=estimator)
