"""BERT's pretraining (arXiv 1810.04805, section 3.1): tell masked tokens, and whether one sentence follows another.

The loss is the mean over all tokens to tell plus the mean over all pairs to judge. Only tokens that are to be told reach the
decoder and its softmax: of a batch of 128 tokens a row that is about a seventh of the logits. The same module serves the
left-to-right rival of section 5.1, whose targets are all next tokens.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from protoformer.batches import PretrainingBatch
from protoformer.errors import ConfigurationError
from protoformer.models.backbone import Backbone
from protoformer.models.heads import MaskedLMHead, NextSentenceHead
from protoformer.modules.evaluation import EvalOutputs, Evaluation, Stage
from protoformer.modules.loss import Loss
from protoformer.modules.queries import Query, QueryEncoder, RankedPredictions, ranked
from protoformer.modules.targets import places
from protoformer.modules.task_module import TaskModule
from protoformer.optim.optimization import Optimization

PretrainingMetric = Literal["mlm_accuracy", "nsp_accuracy"]


class PretrainingHead(nn.Module):
    """Both heads; `next` is None without next-sentence prediction."""

    def __init__(self, backbone: Backbone, nsp: bool) -> None:
        super().__init__()
        vocab_size = backbone.embeddings.token.num_embeddings
        self.masked = MaskedLMHead(backbone.d_model, vocab_size, backbone.activation, backbone.norm_eps)
        self.next = NextSentenceHead(backbone.d_model) if nsp else None


class PretrainingOutput(NamedTuple):
    """Logits of both heads. `row` is the batch row of each masked token, `target_ids` its original id; `nsp_logits` is None
    without next-sentence prediction."""

    row: Int[Tensor, "targets"]
    target_ids: Int[Tensor, "targets"]
    mlm_logits: Float[Tensor, "targets vocab"]
    nsp_logits: Float[Tensor, "batch 2"] | None


class PretrainingEvaluation(Evaluation):
    percent_metrics = frozenset({"mlm_accuracy", "nsp_accuracy"})


class PretrainingModule(TaskModule):
    """`metrics` are those whose mean is the score; `nsp=False` leaves next-sentence prediction out."""

    def __init__(
        self,
        *,
        backbone: Backbone,
        splits: Mapping[Stage, Sequence[str]],
        metrics: Sequence[PretrainingMetric] = ("mlm_accuracy",),
        nsp: bool = True,
        optimization: Optimization | None = None,
    ) -> None:
        super().__init__(optimization)
        if not nsp and "nsp_accuracy" in metrics:
            raise ConfigurationError("task.module.metrics: without next sentences (nsp=false) there is no nsp_accuracy")
        self.backbone, self.splits, self.metrics = backbone, splits, metrics
        self.head: PretrainingHead = PretrainingHead(backbone, nsp)
        backbone.pooler.requires_grad_(nsp)  # takes no part without pairs; several ranks would wait for its gradient

    def forward(self, batch: PretrainingBatch) -> PretrainingOutput:
        hidden = self.backbone(batch["ids"], batch["padding_mask"], batch["segment_ids"])
        row, number = _wanted(batch)
        vectors = hidden.gather(row, batch["target_position"][row, number])
        logits = self.head.masked(vectors, self.backbone.embeddings.token.weight)
        pooled = self.backbone.pooler(hidden, batch["pooler_position"]) if self.head.next is not None else None
        following = None if self.head.next is None or pooled is None else self.head.next(pooled)
        return PretrainingOutput(row, batch["target_ids"][row, number], logits, following)

    def predict_query(self, query: Query, encoder: QueryEncoder) -> list[RankedPredictions]:
        """Fill in each [MASK]; a model that reads from left to right predicts the token after the text."""
        tokenizer, mask_token = encoder.tokenizer, "[MASK]"
        batch = encoder.encode_texts([query.text], None if query.pair is None else [query.pair])
        ids = batch["ids"][0]
        if self.backbone.causal:
            title, positions = "next", [len(ids) - 2]  # the last token before the template's end
        else:
            title, positions = mask_token, (ids == tokenizer.id(mask_token)).nonzero()[:, 0].tolist()
        if not positions:
            raise ConfigurationError(
                f"there is no {mask_token} in {query.text!r} (or it was cut off): write one in place of a word"
            )
        batch["target_position"] = torch.tensor([positions])
        batch["target_ids"] = torch.zeros_like(batch["target_position"])
        names = [
            tokenizer.hf_tokenizer.id_to_token(index) or f"id {index}"
            for index in range(self.backbone.embeddings.token.num_embeddings)
        ]
        titles = [title] if len(positions) == 1 else [f"{title} {number}" for number in range(1, len(positions) + 1)]
        return [
            RankedPredictions(title, ranked(names, logits, query.top))
            for title, logits in zip(titles, self(batch).mlm_logits, strict=True)
        ]

    def dummy_batch(self, batch: int, seq: int) -> PretrainingBatch:
        """With a seventh of the tokens to tell, as at length 128."""
        zeros = torch.zeros(batch, seq, dtype=torch.long)
        told = zeros[:, : max(1, round(0.15 * seq))]
        return PretrainingBatch(
            ids=zeros,
            padding_mask=torch.ones(batch, seq, dtype=torch.bool),
            segment_ids=zeros,
            pooler_position=zeros[:, 0],
            example_ids=zeros[:, 0],
            target_position=told,
            target_ids=told,
            next_sentence=zeros[:, 0],
            targets=torch.ones(2, dtype=torch.long),
        )

    def flops(self, batch: PretrainingBatch) -> Tensor:
        """The encoder's, and the decoder's on the tokens to tell."""
        d_model, vocab_size = self.backbone.d_model, self.backbone.embeddings.token.num_embeddings
        told = (batch["target_ids"] >= 0).sum().double()
        return super().flops(batch) + 6.0 * d_model * (d_model + vocab_size) * told

    def loss(self, batch: PretrainingBatch) -> Loss:
        told = self(batch)
        words = functional.cross_entropy(told.mlm_logits.float(), told.target_ids, reduction="none")
        count = words.new_tensor(float(len(words)))
        right = (told.mlm_logits.argmax(-1) == told.target_ids).sum()
        running_metrics = {"mlm_loss": (words.sum(), count), "mlm_accuracy": (right, count)}
        total = words.sum()
        if told.nsp_logits is not None:
            known = (batch["next_sentence"] >= 0) & (batch["example_ids"] >= 0)
            pairs = functional.cross_entropy(
                told.nsp_logits.float(), batch["next_sentence"].clamp(min=0), reduction="none"
            )
            judged = (told.nsp_logits.argmax(-1) == batch["next_sentence"]) & known
            running_metrics["nsp_loss"] = ((pairs * known).sum(), known.sum())
            running_metrics["nsp_accuracy"] = (judged.sum(), known.sum())
            total = total + self.term_weights(batch)[1] * (pairs * known).sum()
        return Loss(total, count, running_metrics)

    def eval_step(self, batch: PretrainingBatch) -> EvalOutputs:
        """Of each example: loss, count and hits of its tokens; its pair's loss and whether it was judged rightly, or nan."""
        told = self(batch)
        rows = len(batch["example_ids"])
        words = functional.cross_entropy(told.mlm_logits.float(), told.target_ids, reduction="none")
        sums = torch.zeros(rows, 3, device=words.device)
        right = (told.mlm_logits.argmax(-1) == told.target_ids).float()
        sums.index_add_(0, told.row, torch.stack([words, torch.ones_like(words), right], dim=1))
        pairs = torch.full((rows, 2), math.nan, device=words.device)
        if told.nsp_logits is not None:
            known = batch["next_sentence"] >= 0
            losses = functional.cross_entropy(
                told.nsp_logits.float(), batch["next_sentence"].clamp(min=0), reduction="none"
            )
            hits = (told.nsp_logits.argmax(-1) == batch["next_sentence"]).float()
            pairs[known] = torch.stack([losses, hits], dim=1)[known]
        real = batch["example_ids"] >= 0
        return batch["example_ids"][real], sums[real].double(), pairs[real].double()

    def evaluate(self, stage: Stage, split: str, outputs: EvalOutputs) -> PretrainingEvaluation:
        _, sums, pairs = outputs
        loss, count, hits = sums.sum(0).tolist()
        found = {"mlm_loss": loss / max(1.0, count), "mlm_accuracy": hits / max(1.0, count)}
        found["mlm_perplexity"] = math.exp(min(found["mlm_loss"], 700.0))
        known = pairs[~pairs[:, 0].isnan()]
        if len(known):
            found["nsp_loss"], found["nsp_accuracy"] = known.mean(0).tolist()
        found["loss"] = found["mlm_loss"] + found.get("nsp_loss", 0.0)
        scores: dict[str, float] = {name: found.pop(name) for name in self.metrics if name in found}
        return PretrainingEvaluation(scores=scores, other_metrics=found)


def _wanted(batch: PretrainingBatch) -> tuple[Int[Tensor, "targets"], Int[Tensor, "targets"]]:
    """Row and number of every target."""
    return places((batch["target_ids"] >= 0) & (batch["example_ids"] >= 0)[:, None])
