"""The Lightning module around a model's recipe: pairs made on the device, stages, learning rate, metrics."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader

from ..errors import ModelError
from .config import TrainConfig
from .data import Batches, Draws, Sample
from .precision import in_low_precision
from .recipe import Recipe
from .schedule import Place, Schedule
from .validate import ValidationSet

MOST_SKIPPED = 20
"""Steps in a row whose gradient is not finite and that are left out before the training gives up."""


class Training(pl.LightningModule):
    """Trains a recipe's network on the pairs of ``draws``.

    Everything that changes from step to step (stage, samples, seeds, learning rate) follows from the epoch and the
    batch's number in it alone; so a checkpoint of an epoch's end is all that is needed to go on as if never stopped.
    """

    def __init__(
        self,
        config: TrainConfig,
        recipe: Recipe,
        draws: Draws,
        validation: ValidationSet,
        precision: torch.dtype | None = None,
        overfit: bool = False,
    ) -> None:
        super().__init__()
        self.config, self.recipe, self.draws, self.validation = config, recipe, draws, validation
        self.schedule, self.overfit = Schedule(config), overfit
        self.options = [recipe.options(stage) for stage in config.stages]
        self.network = recipe.build()
        if config.channels_last:
            layout = torch.channels_last if len(config.shape) == 2 else torch.channels_last_3d
            self.network.to(memory_format=layout)
        self.average = None
        if config.average:
            self.average = AveragedModel(self.network, multi_avg_fn=get_ema_multi_avg_fn(config.average))
            self.average.requires_grad_(False)
        for network in self.networks():
            in_low_precision(network, recipe.parts, precision)
        self.skipped = 0
        self.logged: set[str] = set()
        self._sums: dict[str, list[float]] = {}

    @property
    def trained(self) -> torch.nn.Module:
        """The network to validate and to export: the average if there is one."""
        return self.network if self.average is None else self.average.module

    def networks(self) -> Iterable[torch.nn.Module]:
        """The network and, if there is one, its average."""
        return (self.network,) if self.average is None else (self.network, self.average.module)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.network.parameters(), lr=self.config.stages[0].lr)

    # Data

    def train_dataloader(self) -> DataLoader:
        """Of the present epoch; Lightning asks for it at the start of each."""
        epoch = self.trainer.current_epoch
        stage, first, _ = self.schedule.epoch(epoch)
        accumulate = self.config.stages[stage].accumulate
        self.trainer.accumulate_grad_batches = accumulate
        batches = Batches(
            self.draws,
            stage,
            first * accumulate,
            self.schedule.batches(epoch),
            self.trainer.global_rank,
            self.trainer.world_size,
            moves=not self.overfit,
        )
        return DataLoader(batches, batch_size=None, num_workers=self.config.workers, pin_memory=self.on_gpu)

    def val_dataloader(self) -> DataLoader:
        stage, _, _ = self.schedule.epoch(self.trainer.current_epoch)
        mine = self.validation.part(stage, self.trainer.global_rank, self.trainer.world_size)
        return DataLoader(mine, batch_size=None, num_workers=0)

    @property
    def on_gpu(self) -> bool:
        return self.trainer.strategy.root_device.type == "cuda"

    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """The samples of a batch become a pair, on the device they have just reached."""
        if "samples" not in batch:
            return self.validation.build(batch, self.device)
        source = self.draws.stages[batch["stage"]][batch["source"]]
        with torch.no_grad():
            return source.make([Sample(**sample) for sample in batch["samples"]], self.device)

    # Training

    def on_train_batch_start(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        self.place = self.schedule.place(self.trainer.current_epoch, batch_idx)
        if self.place.part == 0:
            for optimizer, rate in self._rates(self.schedule.rate(self.place)):
                if self.place.step == 0:
                    # The moments of another loss would only mislead.
                    optimizer.state.clear()
                    self.logged = set()
                for group in optimizer.param_groups:
                    group["lr"] = rate
            self._freeze(self.place)
        torch.manual_seed(self._seed(batch_idx))

    def _rates(self, rate: float) -> list[tuple[torch.optim.Optimizer, float]]:
        """The optimisers and their learning rates where the stage's is ``rate``."""
        return [(self.optimizers(use_pl_optimizer=False), rate)]

    def _seed(self, batch_idx: int) -> int:
        """For modules that draw random numbers themselves."""
        place = self.place
        draw = self.draws.random(place.stage, place.step, 2, place.part, self.trainer.global_rank)
        return int(draw.integers(2**62))

    def _freeze(self, place: Place) -> None:
        options = self.options[place.stage]
        trained = {id(parameter) for parameter in self.recipe.parameters(self.network, options)}
        for parameter in self.network.parameters():
            parameter.requires_grad_(id(parameter) in trained)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        terms = self.recipe.losses(self.network, batch, self.options[self.place.stage], self.place)
        size = len(batch["fixed"])
        shown = {f"loss/{name}": value.detach() for name, value in terms.items()}
        self.logged |= {*shown, "gradient", "rate"}
        self.log_dict(shown, on_step=False, on_epoch=True, batch_size=size)
        self.log("loss", terms["total"].detach(), prog_bar=True, logger=False, batch_size=size)
        return terms["total"]

    def configure_gradient_clipping(self, optimizer: Any, gradient_clip_val: Any = None, *_: Any, **__: Any) -> None:
        self._clip(self.network.parameters())

    def _clip(self, trained: Iterable[torch.nn.Parameter], name: str = "gradient") -> None:
        """Clip; a gradient that is not finite becomes zero, and too many of these end the training."""
        parameters = [entry for entry in trained if entry.grad is not None]
        limit = self.config.stages[self.place.stage].clip
        norm = torch.nn.utils.clip_grad_norm_(parameters, limit)
        self.log(name, norm, on_step=False, on_epoch=True, batch_size=1)
        if bool(torch.isfinite(norm)):
            self.skipped = 0
            return
        self.skipped += 1
        for parameter in parameters:
            parameter.grad = None
        if self.skipped >= MOST_SKIPPED:
            raise ModelError(
                f"The gradient was not finite {MOST_SKIPPED} times in a row at stage "
                f"{self.config.stages[self.place.stage].name!r}; lower the learning rate or check the images."
            )

    def on_train_batch_end(self, *_: Any) -> None:
        stage = self.config.stages[self.place.stage]
        if self.average is not None and self.place.part == stage.accumulate - 1:
            self.average.update_parameters(self.network)
        if self.place.part == 0:
            self.log("rate", self.schedule.rate(self.place), on_step=False, on_epoch=True, batch_size=1)

    # Validation

    def on_validation_epoch_start(self) -> None:
        self._sums = {name: [0.0, 0.0] for name in self.recipe.figures}

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        stage, _, _ = self.schedule.epoch(self.trainer.current_epoch)
        for name, value in self.recipe.measure(self.trained, batch, self.options[stage]).items():
            if math.isfinite(value):
                self._sums[name][0] += value
                self._sums[name][1] += 1.0

    def on_validation_epoch_end(self) -> None:
        totals = torch.tensor([self._sums[name] for name in self.recipe.figures], device=self.device)
        totals = self.trainer.strategy.reduce(totals, reduce_op="sum")
        figures = {
            f"val/{name}": float(total / count)
            for name, (total, count) in zip(self.recipe.figures, totals, strict=True)
            if count
        }
        figures["val/score"] = self.recipe.score(figures)
        self.log_dict(figures, batch_size=1)
