"""Units of a sharded module: what is gathered together for a computation, and freed after it.

Each layer of a stack is a unit; everything else, the embeddings and heads among it, is the root unit. The root is gathered
while a training or evaluation step runs, so weights that modules read outside of their own forward (the token embedding as
output matrix, `linear_cross_entropy`) are whole there, and their gradients are reduced at the end of the backward pass.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor

from protoformer.errors import ConfigurationError

STEPS = ("training_step", "validation_step", "test_step")  # methods of a LightningModule that compute with its weights
KEY = "hardware.fully_shard=true"


def shard(module: nn.Module, layers: Iterable[nn.Module], mesh: DeviceMesh, *, bf16: bool) -> None:
    """Divide the parameters of `module` among the ranks of `mesh`, in place. Each rank must hold the same whole weights.

    `bf16`: layers are gathered and computed in bfloat16, and their gradients reduced in float32. The root unit stays in
    float32, and with it the residual stream and the gradient of the token embedding, as under autocast without sharding. On
    the CPU layers are gathered in float32 too, and computed by autocast.
    """
    bf16 = bf16 and mesh.device_type != "cpu"  # whose normalisation takes no weights of another type than its input
    policy = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if bf16 else None,
        reduce_dtype=torch.float32 if bf16 else None,
        cast_forward_inputs=False,
    )
    for layer in layers:
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    fully_shard(module, mesh=mesh, mp_policy=MixedPrecisionPolicy(cast_forward_inputs=False))
    for name in STEPS:
        register_fsdp_forward_method(module, name)
    # now, and not at the first step: a layer that computes before it (a probe, under `full_weights`) would become a root
    cast(FSDPModule, module)._get_fsdp_state()._lazy_init()


def check_shardable(module: nn.Module, precision: str, optimizer: str) -> None:
    """Raise ConfigurationError for what cannot be sharded: recurrent layers, whose kernels keep references to whole weights,
    fp16, whose gradient scaler would skip a step on some ranks alone, and optimizers that need norms of whole matrices; all of
    it where torch is too old."""
    if not hasattr(FSDPModule, "reset_iter_state"):
        raise ConfigurationError(
            f"{KEY} needs torch 2.13, and this is {torch.__version__}: hardware=ddp, or a newer torch"
        )
    if any(isinstance(each, nn.RNNBase) for each in module.modules()):
        raise ConfigurationError(f"{KEY} cannot divide recurrent layers: hardware=ddp, or another model")
    if precision == "fp16":
        raise ConfigurationError(f"{KEY} has no fp16: hardware.precision=bf16, or hardware=ddp")
    if optimizer in ("lamb", "adafactor"):
        raise ConfigurationError(f"{KEY} has no recipe.optimizer={optimizer}: adamw or sgd, or hardware=ddp")


def is_sharded(module: nn.Module) -> bool:
    """Whether `shard` has divided the module."""
    return isinstance(module, FSDPModule)


def reshard(module: nn.Module) -> None:
    """Free the whole weights that a computation without a backward pass leaves behind, and forget its order of layers: the next
    backward pass would gather weights in advance by it, on ranks that computed alone others than on the rest."""
    if isinstance(module, FSDPModule):
        module.reset_iter_state()


@contextmanager
def full_weights(module: nn.Module) -> Iterator[None]:
    """Within the block each rank holds all weights, so that ranks may compute different things (decoding), or one alone.

    Every rank must enter it. Takes the memory of the whole model. A module that is not sharded is left as it is.
    """
    units = [each for each in module.modules() if isinstance(each, FSDPModule)]
    for unit in units:
        unit.set_reshard_after_forward(False, recurse=False)
        unit.unshard()
    try:
        yield
    finally:
        for unit in units:
            unit.set_reshard_after_forward(unit is not module, recurse=False)
        reshard(module)


def local_tensors(tensors: Sequence[Tensor]) -> list[Tensor]:
    """This rank's part of each tensor, sharing its memory; of one that is not sharded the tensor itself."""
    return [each.to_local() if isinstance(each, DTensor) else each for each in tensors]


def full_tensor(tensor: Tensor) -> Tensor:
    """The whole of a tensor. Of a sharded one a collective."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def divided_like(tensor: Tensor, like: Tensor) -> Tensor:
    """This rank's part of a tensor that every rank has, sharded as `like` is. Nothing is exchanged."""
    if not isinstance(like, DTensor) or isinstance(tensor, DTensor) or tensor.shape != like.shape:
        return tensor
    part = distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None)
    return cast(Tensor, part.clone())  # no view: the whole may be a mapped file
