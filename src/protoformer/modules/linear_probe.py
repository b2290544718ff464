"""Linear probe: a linear classifier on the features of a model that it does not change (Alain and Bengio 2016, arXiv
1610.01644)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeGuard

import torch
from jaxtyping import Float
from torch import Tensor, nn

from protoformer.blocks.kernels.packing import HiddenStates
from protoformer.models.backbone import Backbone
from protoformer.modules.evaluation import EvalOutputs

MAX_ITERATIONS = 200
CONSTANT = 1e-6  # a deviation of so small a part of the mean is rounding


class LinearlyProbed(Protocol):
    """A task module whose head is linear in pooled vectors."""

    backbone: Backbone
    head: nn.Module

    def hidden(self, batch: Any) -> HiddenStates: ...

    def pooled_logits(self, pooled: Tensor, batch: Any) -> Tensor: ...

    def example_losses(self, logits: Tensor, labels: Tensor) -> Tensor: ...


def is_linearly_probed(module: object) -> TypeGuard[LinearlyProbed]:
    """By its methods: from Python 3.12 on, `isinstance` with a protocol does not see submodules."""
    return all(callable(getattr(module, name, None)) for name in ("hidden", "pooled_logits", "example_losses"))


@dataclass(frozen=True)
class FittedProbe:
    """What a fit found: moments of the features, and parameters."""

    mean: Tensor
    deviation: Tensor
    parameters: list[Tensor]


class LinearProbe:
    """The head of `module`, fitted anew to the present weights of its backbone.

    A sequence's features are the mean of its tokens' hidden states, in 64-bit numbers, with the mean and the standard deviation
    that they have over the training examples taken out. The head minimises the sum of its losses plus half the squared norm of
    its weight (an L2 penalty of C = 1) times the strength of a fit, from 0, by L-BFGS: the same features give the same head.

    Tokens that the model has no embedding for, such as those that a template adds for fine-tuning, are read as
    `substitute_id`.
    """

    def __init__(self, module: LinearlyProbed, substitute_id: int = 0) -> None:
        self.module, self.substitute_id = module, substitute_id
        module.head.double().eval()

    def features(self, batch: Any) -> EvalOutputs:
        """Ids, features `(examples, sequences, d_model)`, pooler positions and labels of real examples, on the host."""
        rows = self.module.backbone.embeddings.token.num_embeddings
        known = {**batch, "ids": batch["ids"].masked_fill(batch["ids"] >= rows, self.substitute_id)}
        mask = batch["padding_mask"].flatten(0, 1)
        # (examples x sequences, seq, d_model)
        padded = self.module.hidden(known).to_padded().double() * mask[..., None]
        mean = padded.sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
        real = batch["example_ids"] >= 0
        columns = (
            batch["example_ids"],
            mean.unflatten(0, batch["ids"].shape[:2]),
            batch["pooler_position"],
            batch["labels"],
        )
        return tuple(column[real].cpu() for column in columns)

    def fit_and_predict(self, train: EvalOutputs, evaluated: Sequence[EvalOutputs]) -> list[EvalOutputs]:
        """Fit the head to examples as from `features`; gives ids, logits and labels of those in `evaluated`."""
        self.fit(train)
        return [self.predict(each) for each in evaluated]

    def fit(self, train: EvalOutputs, strength: float = 1.0) -> FittedProbe:
        """Fit the head to examples as from `features`, and keep it for `predict`."""
        _, features, positions, labels = train
        seen = labels != -1
        features, positions, labels = features[seen], positions[seen], labels[seen]
        mean, deviation = _moments(features, positions >= 0)
        self.module.head.cpu()
        self._initialise()
        self._minimise((features - mean) / deviation, positions, labels, strength)
        self._fitted = FittedProbe(mean, deviation, [each.detach().clone() for each in self._parameters()])
        return self._fitted

    def restore(self, fitted: FittedProbe) -> None:
        """Have the head of an earlier fit."""
        with torch.no_grad():
            for parameter, value in zip(self._parameters(), fitted.parameters, strict=True):
                parameter.copy_(value)
        self._fitted = fitted

    def predict(self, evaluated: EvalOutputs) -> EvalOutputs:
        """Ids, logits and labels, by the head as it was fitted or restored last."""
        ids, features, positions, labels = evaluated
        with torch.no_grad():
            logits = self._logits((features - self._fitted.mean) / self._fitted.deviation, positions)
        return ids, logits.float(), labels

    def _parameters(self) -> list[nn.Parameter]:
        return list(self.module.head.parameters())

    def _initialise(self) -> None:
        """Set the parameters to where a fit begins."""
        for parameter in self.module.head.parameters():
            nn.init.zeros_(parameter)

    def _logits(self, features: Tensor, positions: Tensor) -> Tensor:
        return self.module.pooled_logits(features, {"pooler_position": positions})

    def _penalty(self, strength: float) -> Tensor:
        """Half of this is added to the sum of the losses."""
        weights = [weight for weight in self.module.head.parameters() if weight.ndim > 1]
        return strength * torch.stack([(weight**2).sum() for weight in weights]).sum()

    def _minimise(self, features: Tensor, positions: Tensor, labels: Tensor, strength: float) -> None:
        optimizer = torch.optim.LBFGS(
            self._parameters(), max_iter=MAX_ITERATIONS, tolerance_grad=1e-6, line_search_fn="strong_wolfe"
        )

        def closure() -> Tensor:
            optimizer.zero_grad()
            losses = self.module.example_losses(self._logits(features, positions), labels)
            total = losses.sum() + 0.5 * self._penalty(strength)
            total.backward()
            return total

        with torch.enable_grad():
            optimizer.step(closure)


def _moments(
    features: Float[Tensor, "examples sequences *features"], present: Tensor
) -> tuple[Float[Tensor, "*features"], Float[Tensor, "*features"]]:
    """Mean and standard deviation of each feature over all sequences; a feature that is constant is not scaled."""
    rows = features[present]
    mean, deviation = rows.mean(0), rows.std(0, correction=0)
    return mean, torch.where(deviation > CONSTANT * mean.abs(), deviation, 1.0)
