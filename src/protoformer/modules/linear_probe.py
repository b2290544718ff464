"""Linear probe: a linear classifier on the features of a model that it does not change (Alain and Bengio 2016, arXiv
1610.01644)."""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from protoformer.blocks.kernels.packing import HiddenStates
from protoformer.models.backbone import Backbone
from protoformer.modules.evaluation import EvalOutputs

MAX_ITERATIONS = 200


@runtime_checkable
class LinearlyProbed(Protocol):
    """A task module whose head is linear in pooled vectors."""

    backbone: Backbone
    head: nn.Module

    def hidden(self, batch: Any) -> HiddenStates: ...

    def pooled_logits(self, pooled: Tensor, batch: Any) -> Tensor: ...

    def example_losses(self, logits: Tensor, labels: Tensor) -> Tensor: ...


class LinearProbe:
    """The head of `module`, fitted anew to the present weights of its backbone.

    A sequence's features are the mean of its tokens' hidden states, in 64-bit numbers, with the mean and the standard deviation
    that they have over the training examples taken out. The head minimises the sum of its losses plus half the squared norm of
    its weight (an L2 penalty of C = 1), from 0, by L-BFGS: the same features give the same head.

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
        _, features, positions, labels = train
        seen = labels != -1
        features, positions, labels = features[seen], positions[seen], labels[seen]
        mean, deviation = _moments(features, positions >= 0)
        head = self.module.head.cpu()
        for parameter in head.parameters():
            nn.init.zeros_(parameter)
        self._fit(list(head.parameters()), (features - mean) / deviation, positions, labels)
        outputs: list[EvalOutputs] = []
        with torch.no_grad():
            for ids, others, other_positions, other_labels in evaluated:
                logits = self._logits((others - mean) / deviation, other_positions)
                outputs.append((ids, logits.float(), other_labels))
        return outputs

    def _logits(self, features: Tensor, positions: Tensor) -> Tensor:
        return self.module.pooled_logits(features, {"pooler_position": positions})

    def _fit(self, parameters: Iterable[Tensor], features: Tensor, positions: Tensor, labels: Tensor) -> None:
        parameters = list(parameters)
        optimizer = torch.optim.LBFGS(
            parameters, max_iter=MAX_ITERATIONS, tolerance_grad=1e-6, line_search_fn="strong_wolfe"
        )

        def closure() -> Tensor:
            optimizer.zero_grad()
            losses = self.module.example_losses(self._logits(features, positions), labels)
            penalty = sum((weight**2).sum() for weight in parameters if weight.ndim > 1)
            total = losses.sum() + 0.5 * penalty
            total.backward()
            return total

        with torch.enable_grad():
            optimizer.step(closure)


def _moments(
    features: Float[Tensor, "examples sequences d_model"], present: Tensor
) -> tuple[Float[Tensor, "d_model"], Float[Tensor, "d_model"]]:
    """Mean and standard deviation of each feature over all sequences; a feature that is constant is not scaled."""
    rows = features[present]
    deviation = rows.std(0, correction=0)
    return rows.mean(0), torch.where(deviation > 0, deviation, 1.0)
