"""A model for PyTorch Lightning: `Trainer(...).fit(LightningModel(model), loader)`."""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, distributed, nn, optim

from pixyz.core import KindError, random_state, seeded

from ._data import batch_of, named
from ._diagnosis import unnoticed
from ._engine import Engine
from ._of_lightning import DDPStrategy, LightningModule, SingleDeviceStrategy
from ._schedules import scheduled

if TYPE_CHECKING:
    from ._model import Model

__all__ = ["LightningModel"]


class LightningModel(LightningModule):
    """A model as a `LightningModule`, for a `Trainer` of your own; `Model.fit` makes one itself.

    The steps are the model's: its optimisers, schedulers, clipping, accumulation, average, and its check for what is not finite; so
    Lightning's optimisation is manual, and `Trainer(gradient_clip_val=..., accumulate_grad_batches=...)` have no place beside it.

    Logged are, under their printed names, every term of the formula: `train/...` at every `log_every`-th step, of that batch, and
    `validation/...` after every epoch, the mean over the data; and `train/loss` and `validation/loss`, which callbacks may monitor.

    Args:
        model: the model.
        names: the variables that the tensors of a batch are, where it is a tuple.
        log_every: after how many steps the terms are logged; they are evaluated once more for that.

    Attributes:
        train_variables: what a batch must have, and may have, for the loss.
        test_variables: the same for the test loss.
        epoch_means: under `train` and `validation`, what was logged of the last epoch.

    Raises:
        KindError: when training begins, for a strategy that shards the weights, and for float16 with a scaler.
    """

    def __init__(self, model: "Model", *, names: Sequence[str] | None = None, log_every: int = 50) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.model = model
        self.loss = model.loss
        if model.test_loss is not model.loss:
            self.test_loss = model.test_loss
        standing = {*self.modules()}
        self.others = nn.ModuleList([leaf for leaf in model.distributions if leaf not in standing])
        trained = {*model.trained_parameters}
        # What nobody trains here gets no gradient, which DDP would wait for.
        self._ddp_params_and_buffers_to_ignore = [name for name, w in self.named_parameters() if w not in trained]
        self._names = names
        self._log_every = log_every
        self._engine = _TrainersEngine(self)
        self.train_variables = [v for v in (*model.loss.input_var, *sorted(model.loss.optional_var)) if v not in model.schedules]
        self.test_variables = [v for v in (*model.test_loss.input_var, *sorted(model.test_loss.optional_var)) if v not in model.schedules]
        self._train_sum = _Means()
        self._validation_sum = _Means()
        self.epoch_means: dict[str, dict[str, float]] = {}

    @property
    def _who(self) -> str:
        return type(self.model).__name__

    def configure_optimizers(self) -> list[optim.Optimizer]:
        """The optimisers of the model; its schedulers go on with its steps."""
        return [_Stepped(optimizer) for optimizer in self.model.optimizers]  # type: ignore[misc]

    def on_fit_start(self) -> None:
        """Refuses what the steps could not be right under."""
        strategy, precision = self.trainer.strategy, str(self.trainer.precision)
        if not isinstance(strategy, (SingleDeviceStrategy, DDPStrategy)):
            raise KindError(
                f"{self._who}: fit runs on one device, or on several by DDP; got {type(strategy).__name__}. "
                "To shard the weights, call fully_shard(loss) and write the loop: the page Several devices has one."
            )
        if precision == "16-mixed":
            raise KindError(
                f'{self._who}: precision="16-mixed" scales the loss, and leaves out steps without a word. Take "bf16-mixed", '
                'or call fit inside `with precision("f16"):` of pixyz.cuda_utils, which counts them in model.skipped_steps.'
            )

    def on_train_start(self) -> None:
        """Each process draws noise of its own."""
        if self.global_rank:
            torch.manual_seed(random.Random(f"{torch.initial_seed()}/{self.global_rank}/{self.model.step_count}").getrandbits(63))

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        """One step of the model.

        Returns:
            `{"loss": loss}`, of before the step, detached, the mean over all processes; of a game also `discriminator`.
        """
        values = named(batch, self._names, self._who)
        step = self.model.step_count
        if self.model.needs_start:
            self._start(values)
        if self.loggers and step % self._log_every == 0:
            self._log_terms(values, step)
        losses = self.model.losses_by_name(self.model._train(values, {}, self._engine), step)
        self._train_sum.add(losses, batch_of(values, self.train_variables))
        if step % self._log_every == 0:
            self.log_dict(losses, prog_bar=True, logger=False)
        return losses

    def _start(self, values: Mapping[str, Any]) -> None:
        """Starts from the first batch of the first process, in all of them."""
        self.model.initialize(values)
        if self.trainer.world_size > 1:
            for tensor in (*self.parameters(), *self.buffers()):
                distributed.broadcast(tensor.detach(), 0)

    def _log_terms(self, values: Mapping[str, Any], step: int) -> None:
        """Every term, at the draws that the step will have."""
        loss = self.model.loss
        with unnoticed(loss, random_state(next(loss.parameters()).device)):
            terms = loss.explain(scheduled(values, self.model.schedules, step)).as_dict()
        rates = {f"lr/{i}": float(o.param_groups[0]["lr"]) for i, o in enumerate(self.model.optimizers) if "lr" in o.param_groups[0]}
        self._to_loggers({**{f"train/{text}": value for text, value in terms.items()}, **rates})

    def on_train_epoch_end(self) -> None:
        """Logs the mean loss of the epoch, and waits for the device."""
        self.model.check()
        self._log_epoch("train", self._train_sum)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Every term of the test loss, of the averaged weights where there are such. The draws are the same in every epoch."""
        model = self.model
        values = scheduled(named(batch, self._names, self._who), model.schedules, model.step_count)
        with seeded(batch_idx), model.with_averages():
            terms = model.test_loss.explain(values).as_dict()
        self._validation_sum.add({"loss": terms[str(model.test_loss)], **terms}, batch_of(values, self.test_variables))

    def on_validation_epoch_end(self) -> None:
        """Logs the mean of every term over the data."""
        self._log_epoch("validation", self._validation_sum)

    def _log_epoch(self, stage: str, means: "_Means") -> None:
        found = self.epoch_means[stage] = means.take(self._sum_over_processes)
        self.log_dict({f"{stage}/{name}": value for name, value in found.items() if name != "loss"}, logger=False)
        self.log(f"{stage}/loss", found.get("loss", math.nan), prog_bar=True, logger=False)
        self._to_loggers({f"{stage}/{name}": value for name, value in found.items()})

    def _to_loggers(self, numbers: Mapping[str, float]) -> None:
        # Not by self.log, whose count of the steps starts anew when a training goes on.
        for logger in self.loggers:
            logger.log_metrics({**numbers, "epoch": self.current_epoch}, step=self.model.step_count)

    def _sum_over_processes(self, numbers: list[float]) -> list[float]:
        total = self.trainer.strategy.reduce(torch.tensor(numbers, dtype=torch.float64, device=_kind_of(self.device)), reduce_op="sum")
        return total.tolist()  # type: ignore[union-attr]


class _TrainersEngine(Engine):
    """The trainer's: its precision, its processes, its hooks."""

    def __init__(self, module: LightningModel) -> None:
        self._module = module

    @property
    def processes(self) -> int:
        return self._module.trainer.world_size

    def backward(self, loss: Tensor, **how: Any) -> None:
        trainer, weights = self._module.trainer, how.get("inputs")
        if trainer.world_size == 1 or not self._module.loss.is_game:
            self._module.manual_backward(loss, **how)
            return
        # DDP would wait for the gradients of the player whose turn it is not.
        with trainer.strategy.block_backward_sync():  # type: ignore[attr-defined]
            self._module.manual_backward(loss, **how)
        _average([w.grad for w in weights or () if w.grad is not None], trainer.world_size)

    def step(self, number: int, take: Callable[[], object]) -> None:
        optimizers = self._module.optimizers()
        stepped: Any = optimizers[number] if isinstance(optimizers, list) else optimizers
        stepped.optimizer.take = take
        stepped.step()

    def of_all(self, loss: Tensor) -> Tensor:
        trainer = self._module.trainer
        return loss.detach() if trainer.world_size == 1 else trainer.strategy.reduce(loss.detach().clone(), reduce_op="mean")  # type: ignore[return-value]


class _Stepped:
    """An optimiser whose step is taken as the model takes it: fused, compiled or masked.

    To Lightning it is of the optimiser's class.
    """

    def __init__(self, optimizer: optim.Optimizer) -> None:
        self._optimizer = optimizer
        self.take: Callable[[], object] = optimizer.step
        self.__class__ = type(type(optimizer).__name__, (_Stepped, type(optimizer)), {})  # type: ignore[assignment]

    def step(self, closure: Callable[[], Any]) -> Any:
        value = closure()
        self.take()
        return value

    def __getattr__(self, name: str) -> Any:
        return getattr(self._optimizer, name)


class _Means:
    """Means over data, added up batch by batch; tensors stay where they are until the end."""

    def __init__(self) -> None:
        self._sums: dict[str, Any] = {}
        self._counts: dict[str, int] = {}

    def add(self, numbers: Mapping[str, Any], size: int) -> None:
        for name, number in numbers.items():
            self._sums[name] = self._sums.get(name, 0.0) + size * number
            self._counts[name] = self._counts.get(name, 0) + size

    def take(self, sum_over_processes: Callable[[list[float]], list[float]]) -> dict[str, float]:
        """The means, after which all begins anew."""
        names = [*self._sums]
        found = sum_over_processes([*map(float, self._sums.values()), *map(float, self._counts.values())])
        self._sums, self._counts = {}, {}
        return {name: total / max(count, 1) for name, total, count in zip(names, found, found[len(names) :])}


def _average(gradients: list[Tensor], processes: int) -> None:
    """Makes of each its mean over all processes. What is the same in all of them stays as it is."""
    for dtype in {g.dtype for g in gradients}:
        same = [g for g in gradients if g.dtype == dtype]
        flat = torch.cat([g.flatten() for g in same])
        distributed.all_reduce(flat)
        for g, mean in zip(same, (flat / processes).split([g.numel() for g in same]), strict=True):
            g.copy_(mean.view_as(g))


def _kind_of(device: torch.device) -> torch.device:
    """Where float64 is: not on Apple's."""
    return torch.device("cpu") if device.type == "mps" else device
