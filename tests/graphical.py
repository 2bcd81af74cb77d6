"""Graphical models with hidden variables: tables, chains, linear Gaussians, a switch."""

import torch
from torch import nn

from pixyz.distributions import Categorical, MultivariateNormal, Normal


class Table(Categorical):
    """p(child|parents): one random table of logits, one-hot parents multiplied in."""

    def __init__(self, child, parents, sizes, size, name="p"):
        super().__init__(var=[child], cond_var=parents, name=name)
        self.table = nn.Parameter(torch.randn(*sizes, size))

    def forward(self, **given):
        t = self.table
        out = torch.ones_like(next(iter(given.values()))[:, :1])
        for v in self.cond_var:  # the tensor product of one-hot vectors chooses the row
            out = (out.unsqueeze(-1) * given[v].unsqueeze(1)).flatten(1)
        return {"logits": out @ t.flatten(0, -2)}

    def log_table(self):
        return self.table.log_softmax(-1)


class Prior(Categorical):
    def __init__(self, var, size, name="p"):
        super().__init__(var=[var], name=name, logits=nn.Parameter(torch.randn(size)))

    def log_table(self):
        return self.logits.log_softmax(-1)


class Emission(Normal):
    """p(x|z) with a mean for every state."""

    def __init__(self, states, features, var="x", cond="z"):
        super().__init__(var=[var], cond_var=[cond], name="p")
        self.means = nn.Parameter(2 * torch.randn(states, features))

    def forward(self, **given):
        (z,) = given.values()
        loc = z @ self.means
        return {"loc": loc, "scale": torch.ones_like(loc)}


class Switch(Normal):
    """p(z|k): a mean and a scale for each state."""

    def __init__(self):
        super().__init__(var=["z"], cond_var=["k"])
        self.loc_net, self.scale_net = nn.Parameter(torch.randn(3, 2)), nn.Parameter(torch.rand(3, 2) + 0.5)

    def forward(self, k):
        return {"loc": k @ self.loc_net, "scale": k @ self.scale_net}


def one_hot(index, size):
    return nn.functional.one_hot(torch.as_tensor(index), size).to(torch.get_default_dtype())


def chain(prior, transition, emission, steps):
    """p(z_1)p(x_1|z_1) Π p(z_t|z_{t-1})p(x_t|z_t), the transition being p(z|h)."""
    p = prior * emission.replace_var(z="z_1", x="x_1")
    for t in range(2, steps + 1):
        p = p * transition.replace_var(z=f"z_{t}", h=f"z_{t - 1}") * emission.replace_var(z=f"z_{t}", x=f"x_{t}")
    return p


def states(steps):
    return [f"z_{t}" for t in range(1, steps + 1)]


def hidden_markov(steps, size=5, features=2):
    torch.manual_seed(0)
    prior, transition, emission = Prior("z_1", size), Table("z", ["h"], [size], size), Emission(size, features)
    return chain(prior, transition, emission, steps), prior, transition, emission


def series(batch, steps, features):
    x = 2 * torch.randn(batch, steps, features)
    return x, {f"x_{t + 1}": x[:, t] for t in range(steps)}


def dense_chain(mean, cov, transition, offset, noise, steps):
    """The mean and covariance of z_1, ..., z_T stacked, by hand."""
    means, blocks = [mean], [[None] * steps for _ in range(steps)]
    blocks[0][0] = cov
    for t in range(1, steps):
        means.append(transition @ means[-1] + offset)
        for s in range(t):
            blocks[t][s] = transition @ blocks[t - 1][s]
            blocks[s][t] = blocks[t][s].T
        blocks[t][t] = transition @ blocks[t - 1][t - 1] @ transition.T + noise
    return torch.cat(means), torch.cat([torch.cat(row, 1) for row in blocks])


def linear_system(steps):
    torch.manual_seed(1)
    move, see = nn.Linear(2, 2), nn.Linear(2, 3)
    noise, scale = torch.tensor([[0.4, 0.1], [0.1, 0.3]]), torch.tensor([0.5, 0.6, 0.7])
    p = chain(
        MultivariateNormal("p(z_1)", loc=torch.tensor([1.0, -1.0]), covariance_matrix=torch.tensor([[1.0, 0.2], [0.2, 2.0]])),
        MultivariateNormal("p(z|h)", loc=move, covariance_matrix=noise),
        Normal("p(x|z)", loc=see, scale=scale),
        steps,
    )
    mean, cov = dense_chain(
        torch.tensor([1.0, -1.0]), torch.tensor([[1.0, 0.2], [0.2, 2.0]]), move.weight.detach(), move.bias.detach(), noise, steps
    )
    c = torch.block_diag(*[see.weight.detach()] * steps)
    r = torch.diag(scale.square().repeat(steps))
    return p, mean, cov, c, see.bias.detach().repeat(steps), r


def linear_pair():
    torch.manual_seed(8)
    return Normal("p(x|z)", loc=nn.Linear(2, 3), scale=0.5), Normal("p(z)", loc=0.0, scale=1.0, dim=2)


def switching():
    torch.manual_seed(3)
    net, switch = nn.Linear(2, 2), Switch()
    weights = torch.tensor([0.2, 0.3, 0.5])
    p = Normal("p(x|z)", loc=net, scale=0.5) * switch * Categorical("p(k)", probs=weights)
    cov = [net.weight @ torch.diag(s.square()) @ net.weight.T + 0.25 * torch.eye(2) for s in switch.scale_net]
    parts = [torch.distributions.MultivariateNormal(net(m), c) for m, c in zip(switch.loc_net, cov)]
    return p, net, switch, weights, parts


def compare_with_the_table(sizes, parents, shown, asked, seed, device="cpu"):
    """A marginal's likelihood, and the posterior of a hidden variable, whether it was marginalised out or not, against the full table."""
    torch.manual_seed(seed)
    names = [f"v{i}" for i in range(len(sizes))]
    joint, full = None, torch.zeros(sizes)
    for i, above in enumerate(parents):
        leaf = Table(names[i], [names[j] for j in above], [sizes[j] for j in above], sizes[i]) if above else Prior(names[i], sizes[i])
        full = full + leaf.log_table().detach().reshape([n if j in (*above, i) else 1 for j, n in enumerate(sizes)])
        joint = leaf if joint is None else leaf * joint
    values = [torch.randint(sizes[i], (3,)) for i in shown]
    given = {names[i]: one_hot(v, sizes[i]).to(device) for i, v in zip(shown, values)}
    hidden = [i for i in range(len(sizes)) if i not in shown]
    rest = [i for i in hidden if i != asked]
    table = full.logsumexp(rest) if rest else full
    table = table.movedim(sorted([*shown, asked]).index(asked), -1)[tuple(values)]
    joint = joint.to(device)
    marginal = joint.marginalize_var([names[i] for i in hidden])
    torch.testing.assert_close(marginal.log_likelihood(given).detach().cpu(), table.logsumexp(-1), rtol=0, atol=1e-10)
    # A variable on which nothing shown depends was left out of the marginal altogether; the joint still has it.
    known = marginal if names[asked] in marginal.hidden_var else joint.marginalize_var([names[i] for i in rest]) if rest else joint
    posterior = known.posterior(names[asked])
    probs = posterior.mean({v: given[v] for v in posterior.cond_var}).detach().cpu()
    torch.testing.assert_close(probs.expand(3, -1), table.softmax(-1), rtol=0, atol=1e-10)
