"""A loss, what it trains, and its optimisers."""

from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from torch import Tensor

from pixyz.core import Distribution, KindError, Loss, need_distribution, need_scalar

from . import _after_training, _evaluation, _likelihood
from ._checkpoint import Checkpoint, save_checkpoint
from ._data import Data
from ._optimisation import MakesOptimizer, MakesScheduler, Optimizer
from ._restoring import load_checkpoint
from ._step import Steps
from ._summary import summary


class Model(Steps):
    """Minimises a loss, a step at a time.

    Args:
        loss: what `train` minimises, `()`; append `.mean()` to a loss per datum.
        test_loss: what `test` reports; the loss, if not given.
        distributions: whose parameters are trained; all that the loss has, if not given.
        optimizer: a class from `torch.optim`; Adam, if not given.
        optimizer_params: its arguments, `{"lr": 1e-3}`.
        scheduler: a class from `torch.optim.lr_scheduler`; it goes on by one with every step of the optimiser.
        scheduler_params: its arguments, `{"T_max": 1000}`.
        optimizers: several optimisers, each with its own distributions, in place of the five above.
        clip_grad_norm: the largest norm of all gradients together.
        clip_grad_value: the largest absolute value of any gradient.
        accumulate: how many calls of `train` make one step of the optimiser; their gradients are averaged.
        ema: the decay of an exponential moving average of the trained weights, such as 0.999.
        compile: makes one graph of the loss, with its backward pass, and compiles the optimiser's step, or takes torch's fused one. A dict
            has options of `torch.compile`.
        p: the generative model that `sample`, `reconstruct` and `log_likelihood` ask; `VI`, `VAE` and `ML` know it.
        q: the inference model that `infer`, `reconstruct` and `log_likelihood` ask; `VI` and `VAE` know it.

    Attributes:
        trained_parameters: what is trained, of the leaves in `distributions`.
        optimizers: the optimisers, in the order given.
        schedulers: their schedulers, for those that have one.
        ema: the average of the weights, with `state_dict()` and `load_state_dict()`; None without one.
        step_count: how many steps the optimisers have taken.

    Raises:
        ShapeError: for a loss that is not a scalar.
        ParameterError: if there is nothing to train, or one parameter is in two optimisers.
        KindError: for an optimiser that is made already.

    Examples:
        >>> import torch
        >>> from pixyz.distributions import Normal
        >>> p = Normal(var=["x"], loc=torch.nn.Parameter(torch.zeros(2)), scale=1.0)
        >>> model = Model(-p.log_prob().mean(), optimizer=torch.optim.SGD, optimizer_params={"lr": 0.1})
        >>> model.train({"x": torch.zeros(3, 2)})
        tensor(1.8379)
        >>> print(model)
        Model
          minimises:  -mean(log p(x))
          trains:     p(x): 2 parameters
          optimiser:  SGD(lr=0.1)
    """

    def __init__(
        self,
        loss: Loss,
        test_loss: Loss | None = None,
        *,
        distributions: Iterable[Distribution] | None = None,
        optimizer: MakesOptimizer | None = None,
        optimizer_params: Mapping[str, Any] | None = None,
        scheduler: MakesScheduler | None = None,
        scheduler_params: Mapping[str, Any] | None = None,
        optimizers: Iterable[Optimizer] | None = None,
        clip_grad_norm: float | None = None,
        clip_grad_value: float | None = None,
        accumulate: int = 1,
        ema: float | None = None,
        compile: bool | Mapping[str, Any] = False,
        p: Distribution | None = None,
        q: Distribution | None = None,
    ) -> None:
        name = type(self).__name__
        for given, role in ((loss, "loss"), (test_loss, "test_loss")):
            if given is None and role == "test_loss":
                continue
            if not isinstance(given, Loss):
                raise KindError(f"{name}: {role} must be a loss; got a {type(given).__name__}.")
            need_scalar(given, f"{name}: {role}")
        for given, role in ((p, "p"), (q, "q")):
            if given is not None:
                need_distribution(given, f"{name}: {role}")
        self.p = p
        self.q = q
        self.loss = loss
        self.test_loss = loss if test_loss is None else test_loss
        one = {
            "distributions": distributions,
            "optimizer": optimizer,
            "optimizer_params": optimizer_params,
            "scheduler": scheduler,
            "scheduler_params": scheduler_params,
        }
        self._limit(clip_grad_norm, clip_grad_value, accumulate)
        self._arrange(loss, one, optimizers, ema=ema, compile=compile)

    def evaluate(self, data: Data, *, batch_size: int | None = None, names: Sequence[str] | None = None) -> _evaluation.Evaluation:
        """The test loss of all data, and every term of its formula: the mean over batches, each counted by its size.

        Args:
            data: `(N, *features)` for every variable of the test loss, or a loader that gives such mappings, or tuples.
            batch_size: how many data of a mapping are evaluated at a time; all, if not given.
            names: the variables that the tensors of a tuple are, `["x", "y"]`.

        Raises:
            ShapeError: for no data.
        """
        return _evaluation.evaluate(self, data, batch_size=batch_size, names=names)

    def sample(
        self, batch_size: int | None = None, *, given: Mapping[str, Any] | None = None, mean_of: str | Iterable[str] = ()
    ) -> dict[str, Tensor]:
        """Draws every variable of p, `(batch, *features)`.

        Args:
            batch_size: how many; the batch of what is given if not said, else 1.
            given: `(batch, *features)` for each conditioning variable, or for variables that nothing drawn stands above.
            mean_of: variables of which the mean, given what was drawn above, stands for the draw: grey pixels, not black and white.

        Raises:
            FormulaError: if the model knows no p.
        """
        return _after_training.sample(self, batch_size, given, mean_of)

    def infer(self, values: Mapping[str, Any], *, mean_of: str | Iterable[str] = ()) -> dict[str, Tensor]:
        """Draws the latent variables from q, `(batch, *features)`, or takes their means, as in `sample`.

        Raises:
            FormulaError: if the model knows no q.
        """
        return _after_training.infer(self, values, mean_of)

    def reconstruct(self, values: Mapping[str, Any]) -> dict[str, Tensor]:
        """The mean of everything that p makes of one draw from q, `(batch, *features)`: E[x|z] with z from q(z|x).

        Raises:
            FormulaError: if the model knows no p or no q.
        """
        return _after_training.reconstruct(self, values)

    def log_likelihood(
        self,
        data: Data,
        *,
        num_samples: int = 1000,
        unit: str = "nats",
        divided_by: float = 1.0,
        batch_size: int | None = 100,
        names: Sequence[str] | None = None,
    ) -> _likelihood.LogLikelihood:
        r"""The mean of log p(x) over the data, with its standard error: by importance sampling from q, or exact where there is no q.

        Data that were whole numbers v before noise was added and they were divided, x = (v + u)/s with 0 ≤ u < 1, are counted as those
        numbers, by the Jacobian of the division; D is how many numbers a datum has:

        $$\log P(v) \ge \mathbb{E}_u[\log p(x)] - D \log s, \qquad \text{bits/dim} = -\frac{\log p(x) - D \log s}{D \log 2}$$

        Args:
            data: as for `evaluate`.
            num_samples: K, the draws of q for each datum; the estimate is a lower bound in expectation, tight as K grows.
            unit: `"nats"`, of log p, or `"bits/dim"`, of -log p.
            divided_by: s, 256 for bytes in [0, 1], or 16; 1 for data that have no density, as binary pixels.
            batch_size: how many data of a mapping are evaluated at a time; what is in memory is K times as many.
            names: as for `evaluate`.

        Raises:
            FormulaError: if the model knows no p.
            ShapeError: for no data.

        Source:
            Burda et al. (2016), eq. 8, https://arxiv.org/abs/1509.00519; Theis et al. (2016), section 3.1, https://arxiv.org/abs/1511.01844
        """
        return _likelihood.log_likelihood(
            self, data, num_samples=num_samples, unit=unit, divided_by=divided_by, batch_size=batch_size, names=names
        )

    def save(self, path: str | PathLike[str], *, keep: int | None = None, extra: Mapping[str, Any] | None = None) -> Path:
        """Writes all that training goes on from, to one file, which is there whole or not at all.

        That is the parameters and buffers, the states of the optimisers, the schedulers and the moving average, torch's random state,
        the number of steps, and, as text, the formula and the names, shapes and dtypes. The file is one of safetensors; nothing in it
        can be run.

        Args:
            path: the file; `{step}` or `{step:06d}` in its name stands for the number of steps that the model has made.
            keep: how many files of such a numbered name are kept, those of the last steps; all, if not given.
            extra: what `load` gives back: numbers, texts, tensors, and lists, tuples and dicts of them; `{"epoch": 3}`.

        Returns:
            The file that was written.

        Raises:
            ParameterError: for `keep` without `{step}`, or for a parameter that has no shape yet.
            KindError: for a state that is no number, text or tensor, such as a function.
            OSError: if the disk is full or not to be written on; what stood at `path` before is as it was.

        Examples:
            >>> import tempfile, torch
            >>> from pixyz.distributions import Normal
            >>> p = Normal(var=["x"], loc=torch.nn.Parameter(torch.zeros(2)), scale=1.0)
            >>> model = Model(-p.log_prob().mean())
            >>> folder = Path(tempfile.mkdtemp())
            >>> for epoch in range(4):
            ...     _ = model.train({"x": torch.ones(3, 2)})
            ...     _ = model.save(folder / "step_{step}.safetensors", keep=2, extra={"epoch": epoch})
            >>> sorted(file.name for file in folder.iterdir())
            ['step_3.safetensors', 'step_4.safetensors']
            >>> model.load(folder / "step_{step}.safetensors").extra
            {'epoch': 3}
        """
        self.check()
        return save_checkpoint(self, path, keep=keep, extra=extra)

    def load(self, path: str | PathLike[str], *, strict: bool = True) -> Checkpoint:
        """Reads what `save` wrote into this model, which the same code has built. Training goes on as if it had never stopped.

        Everything is checked before anything is changed. Tensors go to the device where the model is; torch's generator is set to its
        state of then, that of the GPU too if the model is on one and was.

        Args:
            path: the file; with `{step}` in its name, that with the greatest number.
            strict: whether a file is refused that does not fit in every point. Else what fits is loaded, tensor by tensor and optimiser by
                optimiser, and the rest is listed in `left`.

        Raises:
            CheckpointError: for a file of another formula or with other tensors or optimisers; for one that is damaged or of
                another format. Nothing is changed then.
            FileNotFoundError: if there is no such file.
        """
        return load_checkpoint(self, path, strict=strict)

    def __str__(self) -> str:
        return summary(self, self._choices)

    __repr__ = __str__
