"""ShardedStrategy: Lightning's ModelParallelStrategy over torch's `fully_shard`."""

import datetime
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.strategies import ModelParallelStrategy, Strategy
from lightning.pytorch.trainer.states import TrainerFn
from torch import nn
from torch.optim import Optimizer

from protoformer.distributed.sharding.units import is_sharded, reshard, shard
from protoformer.training.sharding.checkpoints import read_divided, write_divided


class ShardedStrategy(ModelParallelStrategy):
    """Divides weights, gradients and optimizer states among all ranks; `layers_of` gives a module's units.

    Lightning's own would want the module to shard itself (`configure_model`), write checkpoints in place and with pickled
    metadata, and keep the root unit's weights whole after an evaluation step.
    """

    def __init__(
        self,
        ranks: int,
        layers_of: Callable[[nn.Module], Iterable[nn.Module]],
        *,
        bf16: bool,
        backend: str,
        timeout: datetime.timedelta,
    ) -> None:
        super().__init__(ranks, 1, process_group_backend=backend, timeout=timeout)
        self.layers_of, self.bf16 = layers_of, bf16

    @property
    def lightning_restore_optimizer(self) -> bool:
        return True  # from what `load_checkpoint` returns

    def setup(self, trainer: pl.Trainer) -> None:
        assert self.accelerator is not None
        assert self.lightning_module is not None
        self.accelerator.setup(trainer)
        module = self.lightning_module
        if not is_sharded(module):
            shard(module, self.layers_of(module), self.device_mesh["data_parallel"], bf16=self.bf16)
        self.barrier()
        if trainer.state.fn == TrainerFn.FITTING:
            self.setup_optimizers(trainer)
        self.setup_precision_plugin()

    @contextmanager
    def block_backward_sync(self) -> Iterator[None]:
        """Gradients are reduced after each micro-batch: to keep them until the last one would take the whole model's memory."""
        yield

    def validation_step(self, *args: Any, **kwargs: Any) -> Any:
        return self._evaluated(super().validation_step(*args, **kwargs))

    def test_step(self, *args: Any, **kwargs: Any) -> Any:
        return self._evaluated(super().test_step(*args, **kwargs))

    def _evaluated(self, output: Any) -> Any:
        assert self.lightning_module is not None
        if not getattr(self.lightning_module, "decodes", False):
            reshard(self.lightning_module)
        return output

    def lightning_module_state_dict(self) -> dict[str, Any]:
        assert self.lightning_module is not None
        return self.lightning_module.state_dict()

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        return getattr(optimizer, "_optimizer", optimizer).state_dict()

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any | None = None) -> None:
        write_divided(checkpoint, Path(filepath))

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        assert self.lightning_module is not None
        return read_divided(Path(checkpoint_path), self.lightning_module, self.optimizers)

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        Strategy.load_model_state_dict(self, checkpoint, strict)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        Strategy.load_optimizer_state_dict(self, checkpoint)
