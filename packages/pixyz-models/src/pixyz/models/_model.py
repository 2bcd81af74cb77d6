"""A loss, what it trains, and its optimisers."""

from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from pixyz.core import Distribution, KindError, Loss, need_distribution, need_scalar

from ._asked import Asked
from ._checkpoint import Checkpoint, save_checkpoint
from ._data import Data
from ._finite import Validate
from ._history import History
from ._optimisation import MakesOptimizer, MakesScheduler, Optimizer
from ._restoring import load_checkpoint
from ._schedules import Schedule, check_schedules
from ._summary import summary
from ._training import warn_of_sign


class Model(Asked):
    """Minimises a loss, a step at a time.

    Args:
        loss: what `train` minimises, `()`; append `.mean()` to a loss per datum.
        test_loss: what `test` reports; the loss, if not given.
        distributions: whose parameters are trained; all that the loss has, if not given.
        optimizer: a class from `torch.optim`; Adam, if not given. Where torch has its step fused into one call, that is taken, unless
            `optimizer_params` say something of `fused` or `foreach`.
        optimizer_params: its arguments, `{"lr": 1e-3}`.
        scheduler: a class from `torch.optim.lr_scheduler`; it goes on by one with every step of the optimiser.
        scheduler_params: its arguments, `{"T_max": 1000}`.
        optimizers: several optimisers, each with its own distributions, in place of the five above.
        schedules: for a `Parameter` of the loss, its value at a step of the optimiser: `{"beta": LinearSchedule(0, 1, steps=1000)}`.
            A value that is given with the data stands before it.
        clip_grad_norm: the largest norm of all gradients together.
        clip_grad_value: the largest absolute value of any gradient.
        accumulate: how many calls of `train` make one step of the optimiser; their gradients are averaged. Of a game with `at_once` alone.
        ema: the decay of an exponential moving average of the trained weights, such as 0.999.
        compile: makes one graph of the loss, with its backward pass, and compiles the optimiser's step where it is not fused. A dict has
            options of `torch.compile`.
        n_critic: of a game, how many steps of the discriminators make one of the others.
        at_once: of a game, whether both sides step from the same weights; else the discriminators step first.
        validate: whether steps are checked: values and parameters against their supports, and whether the loss and its gradients are
            finite. On the CPU an error comes before the step, on an accelerator from a later call, and a bad step changes no weight.
            `"deferred"` checks as on an accelerator wherever the model is; False checks nothing.
        p: the generative model that `sample`, `reconstruct` and `log_likelihood` ask; `VI`, `VAE` and `ML` know it.
        q: the inference model that `infer`, `reconstruct` and `log_likelihood` ask; `VI` and `VAE` know it.

    Attributes:
        trained_parameters: what is trained, of the leaves in `distributions`.
        optimizers: the optimisers, in the order given.
        schedulers: their schedulers, for those that have one.
        ema: the average of the weights, with `state_dict()` and `load_state_dict()`; None without one.
        step_count: how many steps the optimisers have taken.
        program: the operations of a step.
        executor: who carries them out.

    Warns:
        UserWarning: for a loss that is a lower bound or a log-likelihood as it stands, which is to be maximised; and for parameters of
            the loss that nobody trains.

    Raises:
        ShapeError: for a loss that is not a scalar.
        ParameterError: if there is nothing to train, one parameter is in two optimisers, a distribution has no part in the loss, or an
            option is out of range, nan or infinite.
        KindError: for an optimiser that is made already, or that evaluates the loss itself, such as LBFGS.

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
        schedules: Mapping[str, Schedule] | None = None,
        clip_grad_norm: float | None = None,
        clip_grad_value: float | None = None,
        accumulate: int = 1,
        ema: float | None = None,
        compile: bool | Mapping[str, Any] = False,
        n_critic: int = 1,
        at_once: bool = False,
        validate: Validate = True,
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
        known = [*self.loss.input_var, *self.test_loss.input_var]
        self.schedules = check_schedules(schedules or {}, known, name)
        one = {
            "distributions": distributions,
            "optimizer": optimizer,
            "optimizer_params": optimizer_params,
            "scheduler": scheduler,
            "scheduler_params": scheduler_params,
        }
        self._limit(clip_grad_norm, clip_grad_value, accumulate)
        self._arrange(loss, one, optimizers, ema=ema, compile=compile, n_critic=n_critic, at_once=at_once, validate=validate)
        warn_of_sign(loss, self.trained_parameters, name)

    def fit(
        self,
        data: Data,
        *,
        epochs: int,
        validation: Data | None = None,
        batch_size: int | None = None,
        names: Sequence[str] | None = None,
        seed: int = 0,
        save: str | PathLike[str] | None = None,
        save_every: int | None = None,
        keep: int | None = 3,
        best: str | PathLike[str] | None = None,
        resume: str | PathLike[str] | bool = False,
        patience: int | None = None,
        logger: Any = None,
        log_every: int = 50,
        callbacks: Sequence[Any] = (),
        progress: bool | None = None,
        validate: Validate | None = None,
        **trainer: Any,
    ) -> History:
        """Trains for whole epochs, by PyTorch Lightning, where the model is; `train` is the step.

        The order of each epoch follows from the seed and the epoch's number, and a checkpoint knows where in it the training was. So
        one that was killed goes on from `resume` as if nothing had happened: on the CPU, bit for bit.

        Args:
            data: `(N, *features)` for every variable of the loss; or a `Dataset`, or a `DataLoader`, or anything else that gives batches.
            epochs: how often the data are gone through, counted from the very start of a training that is resumed.
            validation: data of the same kinds, on which the test loss is evaluated after each epoch; with the averaged weights, if there
                are.
            batch_size: of mappings and datasets, for each process; 64, if not given. The data of a mapping are shuffled.
            names: the variables that the tensors of a tuple are, `["x", "y"]`.
            seed: what the orders of the epochs follow from. Draws are from torch's generator, as ever.
            save: the file of checkpoints, or a series, `"runs/step_{step}.safetensors"`; saved when an epoch ends.
            save_every: after how many steps one is saved besides.
            keep: how many of a series are kept.
            best: the file of the weights with the least validation loss so far.
            resume: the checkpoint to go on from, which `save` has written; True for the last one, if there is one yet.
            patience: ends the training when the validation loss has not sunk for so many epochs.
            logger: a logger of Lightning's, or several: `CSVLogger("runs")`, `TensorBoardLogger("runs")`. Each term of the formula is
                logged under its printed name.
            log_every: after how many steps the terms are logged.
            callbacks: Lightning's, or your own.
            progress: whether there is a progress bar; if not given, on a terminal or in a notebook.
            validate: whether the steps are checked, in place of what `Model(validate=...)` says.
            trainer: other arguments of Lightning's `Trainer`: `accelerator`, `devices`, `strategy`, `precision="bf16-mixed"`, `profiler`.

        Returns:
            The losses of the epochs, which `plot_history` draws.

        Raises:
            ModuleNotFoundError: without Lightning, with the line that installs it.
            ShapeError: for no data, or variables with unequal numbers of data.
            NonFiniteLossError: as `train`; the weights are those before the step.
            CheckpointError: as `load`; and for a file that was saved in the middle of an epoch of other data.

        Examples:
            >>> import torch
            >>> from pixyz.distributions import Normal
            >>> p = Normal(var=["x"], loc=torch.nn.Parameter(torch.zeros(2)), scale=1.0)
            >>> model = Model(-p.log_prob().mean(), optimizer=torch.optim.SGD, optimizer_params={"lr": 0.1})
            >>> print(model.fit({"x": torch.ones(100, 2)}, epochs=2, batch_size=10, progress=False))
            epoch    train
                1  2.30021
                2  1.89409
        """
        from ._fit import fit  # Lightning takes seconds to import, and is an extra

        return fit(
            self,
            data,
            epochs=epochs,
            validation=validation,
            validate=validate,
            batch_size=batch_size,
            names=names,
            seed=seed,
            save=save,
            save_every=save_every,
            keep=keep,
            best=best,
            resume=resume,
            patience=patience,
            logger=logger,
            log_every=log_every,
            callbacks=callbacks,
            progress=progress,
            options=trainer,
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
            CheckpointError: for a file of another formula, or whose parts have other constants or options; for other tensors or
                optimisers; for one that is damaged or of another format. Nothing is changed then.
            FileNotFoundError: if there is no such file.

        Warns:
            UserWarning: for a file of a version that did not keep the options, which are then not compared.
        """
        return load_checkpoint(self, path, strict=strict)

    def __str__(self) -> str:
        return summary(self, self._choices)

    __repr__ = __str__
