"""A VAE with any of torch's optimisers and schedulers, its steps, and all of its state by value."""

import copy

import torch
from torch import optim
from torch.optim import lr_scheduler
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from zoo import Decoder, Encoder, binary, prior

from pixyz.core import seeded
from pixyz.models import VI

OPTIMIZERS = {
    "Adam": (optim.Adam, {"lr": 1e-2}),
    "AdamW amsgrad": (optim.AdamW, {"lr": 1e-2, "amsgrad": True, "weight_decay": 0.1}),
    "Adam foreach": (optim.Adam, {"lr": 1e-2, "foreach": True}),
    "Adam in a loop": (optim.Adam, {"lr": 1e-2, "foreach": False}),
    "Adam tensor lr": (optim.Adam, {"lr": torch.tensor(1e-2)}),
    "NAdam": (optim.NAdam, {"lr": 1e-2}),
    "SGD momentum": (optim.SGD, {"lr": 1e-1, "momentum": 0.9, "nesterov": True}),
    "SGD": (optim.SGD, {"lr": 1e-1}),
    "RMSprop": (optim.RMSprop, {"lr": 1e-2, "momentum": 0.5, "centered": True}),
    "Adagrad": (optim.Adagrad, {"lr": 1e-1}),
    "Adafactor": (optim.Adafactor, {"lr": 1e-1}),
    "LBFGS": (optim.LBFGS, {"lr": 0.1, "max_iter": 3, "history_size": 4, "line_search_fn": "strong_wolfe"}),
}
SCHEDULERS = {
    "none": None,
    "StepLR": lambda o: lr_scheduler.StepLR(o, 3, 0.5),
    "MultiStepLR": lambda o: lr_scheduler.MultiStepLR(o, [3, 8, 8], 0.5),
    "CosineAnnealingLR": lambda o: lr_scheduler.CosineAnnealingLR(o, 20),
    "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(
        o, 0.1, total_steps=30, cycle_momentum=not {"betas", "momentum"}.isdisjoint(o.defaults)
    ),
    "LambdaLR": lambda o: lr_scheduler.LambdaLR(o, lambda step: 0.9**step),
    "ReduceLROnPlateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=0, threshold=0.1),
    "SequentialLR": lambda o: lr_scheduler.SequentialLR(o, [lr_scheduler.ConstantLR(o, 0.5, 2), lr_scheduler.ExponentialLR(o, 0.9)], [7]),
}
with seeded(0):
    X = binary(8)


def vae(optimizer="Adam", scheduler="none", *, ema=False, hidden=8, device="cpu"):
    """A loss that draws, twice over: in its expectation and in the dropout. Its weights are those of the seed."""
    with seeded(1):
        p, q = Decoder(hidden=hidden).to(device), Encoder(hidden=hidden, dropout=0.2).to(device)
    z = prior().to(device)
    kind, params = OPTIMIZERS[optimizer]
    params = copy.deepcopy(params)  # a scheduler fills a tensor
    if kind is optim.LBFGS:  # which has a loop of its own
        model = VI(p * z, q)
        model.optimizers[:] = [kind(model.trained_parameters, **params)]
    else:
        model = VI(p * z, q, optimizer=kind, optimizer_params=params)
    if SCHEDULERS[scheduler]:
        model.schedulers.append(SCHEDULERS[scheduler](model.optimizers[0]))
    if ema:
        model.ema = Average(model.loss, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    return model


class Average(AveragedModel):
    """Torch's own average, which is never in the place of the weights."""

    is_in_place = False


def steps(model, num_steps):
    """Steps whose schedulers and average are driven here, so that any of torch's may stand in the model."""
    schedulers, average, losses = model.schedulers, model.ema, []
    model.schedulers, model.ema = [], None
    for _ in range(num_steps):
        if isinstance(model.optimizers[0], optim.LBFGS):
            losses.append(lbfgs_step(model))
        else:
            losses.append(model.train({"x": X.to(model.trained_parameters[0].device)}).item())
        for scheduler in schedulers:
            if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau):
                scheduler.step(losses[-1])
            else:
                scheduler.step()
        if average is not None:
            average.update_parameters(model.loss)
    model.schedulers, model.ema = schedulers, average
    return losses


def lbfgs_step(model):
    def closure():
        model.optimizers[0].zero_grad()
        loss = model.loss.estimate({"x": X.to(model.trained_parameters[0].device)})
        loss.backward()
        return loss

    model.loss.train()
    return model.optimizers[0].step(closure).item()


def same(a, b):
    """Whether two trees are the same, bit for bit."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and (a.dtype, a.device, a.shape) == (b.dtype, b.device, b.shape) and torch.equal(a, b)
    if type(a) is not type(b):
        return False
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(v, w) for v, w in zip(a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(v, b[k]) for k, v in a.items())
    return a == b or (a != a and b != b)


def snapshot(model):
    """All that a load could change, by value, on the CPU: torch loads the state of NAdam to another device than it starts it on."""
    state = {
        "weights": dict(model.loss.state_dict()),
        "optimizers": [o.state_dict() for o in model.optimizers],
        "schedulers": [s.state_dict() for s in model.schedulers],
        "ema": None if model.ema is None else dict(model.ema.state_dict()),
        "random": [torch.get_rng_state(), *(torch.cuda.get_rng_state(i) for i in range(torch.cuda.device_count()))],
        "steps": model.step_count,
    }
    return torch.utils._pytree.tree_map(lambda v: v.cpu().clone() if isinstance(v, torch.Tensor) else v, state)


def disturbed(model):
    """The same model after another history, so that loading has something to change."""
    steps(model, 2)
    torch.manual_seed(123)
    return model
