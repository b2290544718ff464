"""BERT's pretraining (arXiv 1810.04805, section 3.1): masked language modelling (MLM) and next-sentence prediction (NSP).

The loss is the mean over all masked tokens plus the mean over all sentence pairs. Logits are computed at the masked tokens
alone, which are about a seventh of all. The left-to-right baseline of section 5.1 is the same module, with every next token a
target.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from protoformer.batches import PretrainingBatch
from protoformer.blocks.kernels.packing import HiddenStates
from protoformer.errors import ConfigurationError
from protoformer.models.backbone import Backbone
from protoformer.models.heads import MaskedLMHead, NextSentenceHead
from protoformer.modules.evaluation import EvalOutputs, Evaluation, Stage
from protoformer.modules.logit_targets import EncodedQuery, LogitTarget, chosen_token, pooler_positions
from protoformer.modules.objective.loss import Loss
from protoformer.modules.objective.targets import nonzero_indices, target_count
from protoformer.modules.queries import Query, QueryEncoder, RankedPredictions, ranked
from protoformer.modules.task_module import TaskModule
from protoformer.optim.optimization import Optimization
from protoformer.text.tokenizers import Tokenizer

MASK = "[MASK]"
PretrainingMetric = Literal["mlm_accuracy", "nsp_accuracy"]


class PretrainingHead(nn.Module):
    """Both heads; `next` is None without NSP."""

    def __init__(self, backbone: Backbone, nsp: bool) -> None:
        super().__init__()
        vocab_size = backbone.embeddings.token.num_embeddings
        self.masked = MaskedLMHead(
            backbone.d_model, vocab_size, backbone.activation, backbone.norm_eps, backbone.tie_word_embeddings
        )
        self.next = NextSentenceHead(backbone.d_model) if nsp else None


class PretrainingOutput(NamedTuple):
    """Logits of both heads. `row` is the batch row of each masked token, `target_ids` its original id; `nsp_logits` is None
    without NSP."""

    row: Int[Tensor, "targets"]
    target_ids: Int[Tensor, "targets"]
    mlm_logits: Float[Tensor, "targets vocab"]
    nsp_logits: Float[Tensor, "batch 2"] | None


@dataclass(frozen=True, kw_only=True)
class PretrainingEvaluation(Evaluation):
    """Metrics of a split; predictions of single tokens are not kept."""

    has_labels = False
    percent_metrics = frozenset({"mlm_accuracy", "nsp_accuracy"})

    ids: Sequence[int] = ()
    sums: Sequence[
        Sequence[float]
    ] = ()  # of each example: -log P of its masked tokens in nats, their number, correct ones

    def example_ids(self) -> Sequence[int]:
        return self.ids

    def example_sums(self) -> Mapping[str, Sequence[float]]:
        losses, tokens, correct = zip(*self.sums, strict=True) if self.sums else ((), (), ())
        return {"mlm_log_likelihood": [-loss for loss in losses], "mlm_tokens": tokens, "mlm_correct": correct}


class PretrainingModule(TaskModule[PretrainingBatch, None]):
    """The score is the mean of `metrics`; `nsp=False` leaves NSP out."""

    optional_head_prefixes = ("next.",)
    backbone: Backbone
    head: PretrainingHead

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
        if backbone.embeddings.token.embedding_dim != backbone.d_model:
            raise ConfigurationError(
                "a masked language model predicts tokens by the token embeddings, which must be as wide as the model "
                f"({backbone.d_model}), not {backbone.embeddings.token.embedding_dim}"
            )
        if not nsp and "nsp_accuracy" in metrics:
            raise ConfigurationError(
                "task.module.metrics: without next-sentence prediction (nsp=false) there is no nsp_accuracy"
            )
        segments = backbone.embeddings.segment
        if nsp and segments is not None and segments.num_embeddings < 2:
            raise ConfigurationError(
                "next-sentence prediction reads pairs of texts, of two segments (token types), and the model has "
                f"{segments.num_embeddings}: task.module.nsp=false, or another model"
            )
        self.backbone, self.splits, self.metrics = backbone, splits, metrics
        self.head = PretrainingHead(backbone, nsp)
        backbone.pooler.requires_grad_(nsp)  # unused without NSP: DDP would wait for its gradient

    def forward(self, batch: PretrainingBatch) -> PretrainingOutput:
        hidden = self.backbone(batch["ids"], batch["padding_mask"], batch["segment_ids"], lengths=batch.get("lengths"))
        row, column = _target_indices(batch)
        # (targets, d_model): the head runs on the masked tokens alone
        vectors = hidden.gather(row, batch["target_position"][row, column])
        logits = self.head.masked(vectors, self.backbone.embeddings.token.weight)
        nsp_logits = None
        if self.head.next is not None:
            nsp_logits = self.head.next(self.backbone.pooler(hidden, batch["pooler_position"]))
        return PretrainingOutput(row, batch["target_ids"][row, column], logits, nsp_logits)

    def predict_queries(self, queries: Sequence[Query], encoder: QueryEncoder) -> list[list[RankedPredictions]]:
        """Fill in each [MASK]; a model that reads from left to right predicts the token after the text."""
        pairs = [query.pair for query in queries if query.pair is not None]
        if pairs and len(pairs) != len(queries):
            raise ConfigurationError("some texts have a second text (--pair) and others have none")
        rankings: list[list[RankedPredictions]] = [[] for _ in queries]
        names, no_token = self._token_names(encoder.tokenizer)
        for batch in encoder.encode_batches([query.text for query in queries], pairs or None):
            indices = batch["example_ids"].tolist()
            positions = [
                self._positions(ids[mask], queries[index], encoder.tokenizer)
                for index, ids, mask in zip(indices, batch["ids"], batch["padding_mask"], strict=True)
            ]
            target_position = torch.zeros(len(indices), max(map(len, positions)), dtype=torch.long)
            target_ids = torch.full_like(target_position, -1)
            for row, of_row in enumerate(positions):
                target_position[row, : len(of_row)] = torch.tensor(of_row)
                target_ids[row, : len(of_row)] = 0  # which token it is has no influence
            targets = {"target_position": target_position.to(self.device), "target_ids": target_ids.to(self.device)}
            output = self({**batch, **targets})
            for row, logits in zip(output.row.tolist(), output.mlm_logits, strict=True):
                of_query = rankings[indices[row]]
                title = self._title(len(of_query), len(positions[row]))
                logits = logits.index_fill(0, no_token.to(self.device), -math.inf)
                of_query.append(RankedPredictions(title, ranked(names, logits, queries[indices[row]].top)))
        return rankings

    def logit_target(self, query: EncodedQuery) -> LogitTarget:
        """The logit of a token in place of the first [MASK]; of a model that reads from left to right, after the text."""
        text = query.tokenizer.decode(query.ids.tolist())
        position = self._positions(query.ids, Query(text), query.tokenizer)[0]

        def logits(hidden: HiddenStates) -> Float[Tensor, "batch vocab"]:
            vectors = hidden.at(pooler_positions(hidden, position))
            return self.head.masked(vectors, self.backbone.embeddings.token.weight)

        token = chosen_token(query, logits(query.hidden)[0])
        name = "next token" if self.backbone.causal else MASK
        return LogitTarget(name, lambda hidden: logits(hidden)[:, token], token)

    def _positions(self, ids: Int[Tensor, "seq"], query: Query, tokenizer: Tokenizer) -> list[int]:
        """Positions of the tokens to predict, of one text."""
        if self.backbone.causal:
            return [len(ids) - 2]  # the last token before the template's end
        mask_token = tokenizer.special_token("mask_token")
        positions = (ids == tokenizer.id(mask_token)).nonzero()[:, 0].tolist()
        if not positions:
            raise ConfigurationError(
                f"there is no {mask_token} in {query.text!r} (or it was truncated): put one in place of a word"
            )
        return positions

    def _title(self, index: int, count: int) -> str:
        return "next" if self.backbone.causal else MASK if count == 1 else f"{MASK} {index + 1}"

    def _token_names(self, tokenizer: Tokenizer) -> tuple[list[str], Int[Tensor, "unused"]]:
        """The token of each row of the embedding, and the rows that stand for none, which are never predicted."""
        rows = self.backbone.embeddings.token.num_embeddings
        names = [tokenizer.hf_tokenizer.id_to_token(index) or f"id {index}" for index in range(rows)]
        return names, torch.tensor(sorted(tokenizer.ids_without_token(rows)), dtype=torch.long)

    def dummy_batch(self, batch: int, seq: int) -> PretrainingBatch:
        """15 % of the tokens are targets."""
        zeros = torch.zeros(batch, seq, dtype=torch.long)
        targets = zeros[:, : max(1, round(0.15 * seq))]
        return PretrainingBatch(
            ids=zeros,
            padding_mask=torch.ones(batch, seq, dtype=torch.bool),
            segment_ids=zeros,
            pooler_position=zeros[:, 0],
            example_ids=zeros[:, 0],
            target_position=targets,
            target_ids=targets,
            next_sentence=zeros[:, 0],
            targets=torch.ones(2, dtype=torch.long),
        )

    def flops(self, batch: PretrainingBatch) -> Tensor:
        """Operations of the encoder, and of the MLM head at the targets."""
        d_model, vocab_size = self.backbone.d_model, self.backbone.embeddings.token.num_embeddings
        targets = target_count(batch)
        return super().flops(batch) + 6.0 * d_model * (d_model + vocab_size) * targets

    def loss(self, batch: PretrainingBatch) -> Loss:
        output = self(batch)
        token_losses = functional.cross_entropy(output.mlm_logits.float(), output.target_ids, reduction="none")
        count = token_losses.new_full((), float(len(token_losses)))
        correct = (output.mlm_logits.argmax(-1) == output.target_ids).sum()
        running_metrics = {"mlm_loss": (token_losses.sum(), count), "mlm_accuracy": (correct, count)}
        total = token_losses.sum()
        if output.nsp_logits is not None:
            labelled = (batch["next_sentence"] >= 0) & (batch["example_ids"] >= 0)
            pair_losses, pair_correct = _pair_losses(output.nsp_logits, batch["next_sentence"])
            nsp_total = (pair_losses * labelled).sum()
            running_metrics["nsp_loss"] = (nsp_total, labelled.sum())
            running_metrics["nsp_accuracy"] = ((pair_correct & labelled).sum(), labelled.sum())
            # later divided by the number of masked tokens, as the whole loss; this makes it a mean over pairs
            total = total + self.term_weights(batch)[1] * nsp_total
        return Loss(total, count, running_metrics)

    def eval_step(self, batch: PretrainingBatch) -> EvalOutputs:
        """Of each example: id; (sum of losses, number, correct ones) of its masked tokens, `(examples, 3)`; (loss, correct) of
        its sentence pair, `(examples, 2)`, nan where there is no pair."""
        output = self(batch)
        rows = len(batch["example_ids"])
        token_losses = functional.cross_entropy(output.mlm_logits.float(), output.target_ids, reduction="none")
        sums = torch.zeros(rows, 3, device=token_losses.device)
        correct = (output.mlm_logits.argmax(-1) == output.target_ids).float()
        sums.index_add_(0, output.row, torch.stack([token_losses, torch.ones_like(token_losses), correct], dim=1))
        # nan marks an example without a sentence pair
        pairs = torch.full((rows, 2), math.nan, device=token_losses.device)
        if output.nsp_logits is not None:
            labelled = batch["next_sentence"] >= 0
            pair_losses, pair_correct = _pair_losses(output.nsp_logits, batch["next_sentence"])
            pairs[labelled] = torch.stack([pair_losses, pair_correct.float()], dim=1)[labelled]
        real = batch["example_ids"] >= 0
        return batch["example_ids"][real], sums[real].double(), pairs[real].double()

    def evaluate(self, stage: Stage, split: str, outputs: EvalOutputs) -> PretrainingEvaluation:
        ids, sums, pairs = outputs
        loss, count, correct = sums.sum(0).tolist()
        metrics = {"mlm_loss": loss / max(1.0, count), "mlm_accuracy": correct / max(1.0, count)}
        metrics["mlm_perplexity"] = math.exp(min(metrics["mlm_loss"], 700.0))
        labelled = pairs[~pairs[:, 0].isnan()]
        if len(labelled):
            metrics["nsp_loss"], metrics["nsp_accuracy"] = labelled.mean(0).tolist()
        metrics["loss"] = metrics["mlm_loss"] + metrics.get("nsp_loss", 0.0)
        scores: dict[str, float] = {name: metrics.pop(name) for name in self.metrics if name in metrics}
        return PretrainingEvaluation(scores=scores, other_metrics=metrics, ids=ids.tolist(), sums=sums.tolist())


def _pair_losses(
    nsp_logits: Float[Tensor, "batch 2"], next_sentence: Int[Tensor, "batch"]
) -> tuple[Float[Tensor, "batch"], Bool[Tensor, "batch"]]:
    """Cross-entropy of each sentence pair, and whether it is classified correctly; meaningless where the label is -1."""
    losses = functional.cross_entropy(nsp_logits.float(), next_sentence.clamp(min=0), reduction="none")
    return losses, nsp_logits.argmax(-1) == next_sentence


def _target_indices(batch: PretrainingBatch) -> tuple[Int[Tensor, "targets"], Int[Tensor, "targets"]]:
    """Row and column, in `target_ids`, of every target of a real example."""
    is_target = (batch["target_ids"] >= 0) & (batch["example_ids"] >= 0)[:, None]
    return nonzero_indices(is_target, batch.get("target_count"))
