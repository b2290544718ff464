"""Probes of every layer and of their scalar mix: fitted on training examples, applied to dev examples as they are read."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from protoformer.errors import ConfigurationError
from protoformer.inference.layers.features import LayerFeatures
from protoformer.modules.evaluation import EvalOutputs, gather_examples
from protoformer.modules.linear_probe import FittedProbe, LinearProbe
from protoformer.modules.scalar_mix import ScalarMixProbe

STRENGTHS = (1.0, 10.0, 100.0, 1_000.0, 10_000.0, 100_000.0)
HELD_OUT = 5  # one of so many training examples chooses the strength
MIN_EXAMPLES = 10


@dataclass(frozen=True)
class LayerProbe:
    """A fitted probe of a layer, or of all (`layer` None), with the strength of its penalty."""

    layer: int | None
    strength: float
    fitted: FittedProbe

    @property
    def name(self) -> str:
        return "scalar mix" if self.layer is None else str(self.layer)


@dataclass(frozen=True)
class Mix:
    """Weights of the layers in the scalar mix, and gamma."""

    weights: Float[Tensor, "layers"]
    gamma: float


class LayerProbes:
    """Probes of the frozen model under `module`, one for each layer and one for the mix; they share the module's head."""

    def __init__(self, module: Any, layers: int) -> None:
        self.linear, self.mixing = LinearProbe(module), ScalarMixProbe(module, layers)
        self.module, self.layers = module, [*range(layers), None]

    def fit(self, train: LayerFeatures, seed: int) -> tuple[list[LayerProbe], Mix]:
        """Fit all of them. A probe's strength has the least loss on a fifth of the examples, drawn by `seed`, where the other
        four fifths are fitted to; then it is fitted to all examples.

        Raises ConfigurationError for too few examples.
        """
        train = train.rows(train.labels != -1)
        examples = len(train.ids)
        if examples < MIN_EXAMPLES:
            raise ConfigurationError(
                f"{examples} training examples with labels: a probe takes {MIN_EXAMPLES} at least (task.splits.train, --rows)"
            )
        # by id: batches come by length
        by_id = torch.argsort(train.ids)
        order = by_id[torch.randperm(examples, generator=torch.Generator().manual_seed(seed))]
        held_out, fitted_to = order[: examples // HELD_OUT], order[examples // HELD_OUT :]
        probes = []
        for layer in self.layers:
            probe = self._probe(layer)
            whole = train.of_layer(layer)
            parts = [tuple(column[chosen] for column in whole) for chosen in (fitted_to, held_out)]
            strength = self._best_strength(probe, *parts)
            probes.append(LayerProbe(layer, strength, probe.fit(whole, strength)))
        return probes, Mix(self.mixing.weights.clone(), float(self.mixing.gamma.detach()))

    def predict(self, probes: Sequence[LayerProbe], batches: Iterable[LayerFeatures]) -> list[EvalOutputs]:
        """Ids, logits and labels of all labelled examples in order, by each probe."""
        outputs: list[list[EvalOutputs]] = [[] for _ in probes]
        for batch in batches:
            for each, so_far in zip(probes, outputs, strict=True):
                probe = self._probe(each.layer)
                probe.restore(each.fitted)
                so_far.append(probe.predict(batch.of_layer(each.layer)))
        return [_labelled(gather_examples(each, world_size=1)) for each in outputs]

    def _probe(self, layer: int | None) -> LinearProbe:
        return self.mixing if layer is None else self.linear

    def _best_strength(self, probe: LinearProbe, fitted_to: EvalOutputs, held_out: EvalOutputs) -> float:
        losses = []
        for strength in STRENGTHS:
            probe.fit(fitted_to, strength)
            _, logits, labels = probe.predict(held_out)
            losses.append(float(self.module.example_losses(logits.double(), labels).mean()))
        return STRENGTHS[min(range(len(STRENGTHS)), key=lambda index: losses[index])]


def baseline(module: Any, train_labels: Tensor, outputs: EvalOutputs) -> EvalOutputs:
    """What knows the training labels alone: the commonest one for every example, or the mean of a regression."""
    ids, logits, labels = outputs
    known = train_labels[train_labels != -1]
    if module.labels is None:
        return ids, torch.full_like(logits, float(known.double().mean())), labels
    probs = known.long().bincount(minlength=logits.shape[1]).double() / len(known)
    prior = probs.log().clamp(min=-100).to(logits).expand_as(logits)
    return ids, prior.masked_fill(logits == -torch.inf, -torch.inf), labels  # choices that an example lacks


def _labelled(outputs: EvalOutputs) -> EvalOutputs:
    labelled = outputs[-1] != -1
    return tuple(column[labelled] for column in outputs)
