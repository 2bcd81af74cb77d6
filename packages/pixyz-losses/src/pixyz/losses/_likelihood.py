"""The negative log-likelihood."""

from pixyz.core import Distribution, LogProb, Loss


def NLL(p: Distribution) -> Loss:
    """-log p(var|cond_var) in nats, `(batch,)`.

    Args:
        p: the distribution.

    Examples:
        >>> from pixyz.distributions import Normal
        >>> print(0.1 * NLL(Normal(var=["x"], loc=0.0, scale=1.0)))
        0.1 * (-log p(x))
    """
    return -LogProb(p)
