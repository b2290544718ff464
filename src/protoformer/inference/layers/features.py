"""Pooled features of all layers, in one pass of a model over encoded examples."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from protoformer.blocks.kernels.packing import HiddenStates
from protoformer.data.datamodules.table import TableDataModule
from protoformer.decoding.seq2seq import batches_by_length
from protoformer.inference.files.progress import Progress
from protoformer.inference.queries.encoder import to_device
from protoformer.models.poolers import MeanPooler
from protoformer.modules.evaluation import EvalOutputs
from protoformer.modules.linear_probe import LinearlyProbed

Pooling = Literal["head", "mean"]
BATCH_TOKENS = 8192


class LayerFeatures(NamedTuple):
    """Examples as `LinearProbe` takes them, with a vector of each layer; layer 0 is the embeddings."""

    ids: Int[Tensor, "examples"]
    features: Float[Tensor, "examples sequences layers d_model"]
    positions: Int[Tensor, "examples sequences"]
    labels: Tensor

    def of_layer(self, layer: int | None) -> EvalOutputs:
        """Features in 64-bit numbers of one layer, `(examples, sequences, d_model)`; None: of all of them."""
        features = self.features if layer is None else self.features[:, :, layer]
        return self.ids, features.double(), self.positions, self.labels

    def rows(self, chosen: Tensor) -> "LayerFeatures":
        return LayerFeatures(*(column[chosen] for column in self))


def read_layers(
    module: LinearlyProbed,
    data: TableDataModule[Any],
    table: Any,
    rows: Sequence[int],
    pooling: Pooling,
    progress: Progress,
    done: int = 0,
) -> Iterator[LayerFeatures]:
    """Features of these rows of a table in batches of similar length, on the host; `done` examples were read before."""
    collate, lengths = data.collate(table), table.lengths[list(rows)].tolist()
    device = next(module.backbone.parameters()).device
    for batch_rows in batches_by_length(lengths, BATCH_TOKENS):
        batch = to_device(collate([rows[row] for row in batch_rows]), device)
        yield _features(module, batch, pooling)
        done += len(batch_rows)
        progress.update(done)


def joined(batches: Iterator[LayerFeatures], examples: int) -> LayerFeatures:
    """All batches, in memory that is taken once."""
    whole: LayerFeatures | None = None
    start = 0
    for batch in batches:
        if whole is None:
            whole = LayerFeatures(*(column.new_empty(examples, *column.shape[1:]) for column in batch))
        for column, part in zip(whole, batch, strict=True):
            column[start : start + len(part)] = part
        start += len(batch.ids)
    if whole is None or start != examples:
        raise RuntimeError(f"{start} of {examples} examples")
    return whole


@torch.inference_mode()
def _features(module: LinearlyProbed, batch: Any, pooling: Pooling) -> LayerFeatures:
    layers: list[HiddenStates] = []
    with _collected(module.backbone.stack, layers):
        last = module.hidden(batch)
    layers[-1] = last  # normalised, where the stack ends with a normalisation
    pooled = torch.stack([_pooled(module, hidden, batch, pooling) for hidden in layers], dim=2)
    columns = (batch["example_ids"], pooled.float(), batch["pooler_position"], batch["labels"])
    return LayerFeatures(*(column.cpu().clone() for column in columns))


def _pooled(
    module: LinearlyProbed, hidden: HiddenStates, batch: Any, pooling: Pooling
) -> Float[Tensor, "examples sequences d_model"]:
    """The vector that the task's head reads of a layer, without BERT's layer on top of it, which belongs to the last one."""
    positions = batch["pooler_position"]
    flat = positions.clamp(min=0).flatten()
    averages = pooling == "mean" or isinstance(module.backbone.pooler, MeanPooler)
    pooled = MeanPooler()(hidden, flat) if averages else hidden.at(flat)
    return pooled.unflatten(0, positions.shape)


@contextmanager
def _collected(stack: Any, layers: list[HiddenStates]) -> Iterator[None]:
    """Append what a stack reads, and the output of each of its layers."""

    def on_input(_: Any, arguments: tuple[Any, ...]) -> None:
        tokens, layout = arguments[:2]
        layers.append(HiddenStates(tokens, layout))

    def on_output(_: Any, __: Any, output: Any) -> None:
        tokens = output[0] if isinstance(output, tuple) else output
        layers.append(HiddenStates(tokens, layers[0].layout))

    with ExitStack() as hooks:
        hooks.callback(stack.register_forward_pre_hook(on_input).remove)
        for layer in stack.layers:
            hooks.callback(layer.register_forward_hook(on_output).remove)
        yield
