"""Sequence-to-sequence learning, such as translation: predict each target token from the source and the previous target tokens
(arXiv 1706.03762).

The loss is the label-smoothed cross-entropy (section 5.4; see `label_smoothing`); the plain one is logged beside it. Both are
means over the target tokens of a global batch. A validation reports the loss, the perplexity per token, and BLEU of generated
targets: with `dev_beams` beams during training (1: greedy), with `beams` on the test split.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from protoformer.batches import TranslationBatch
from protoformer.blocks.kernels.linear_cross_entropy import linear_cross_entropy
from protoformer.decoding.beam import BeamParams
from protoformer.decoding.seq2seq import Seq2SeqParams, best_tokens, generate_targets
from protoformer.errors import ConfigurationError
from protoformer.models.cost import row_lengths
from protoformer.models.encoder_decoder import EncoderDecoder
from protoformer.modules.evaluation import EvalOutputs, Evaluation, PredictionRow, Stage
from protoformer.modules.objective.label_smoothing import label_smoothed
from protoformer.modules.objective.loss import Loss
from protoformer.modules.objective.targets import nonzero_indices
from protoformer.modules.task_module import TaskModule
from protoformer.optim.optimization import Optimization
from protoformer.scoring.bleu import bleu, compound_bleu


class Detokenizer(Protocol):
    def decode(self, ids: Sequence[int]) -> str: ...


class TargetIds(Protocol):
    """Ids that begin and end a target, and ids that are never generated."""

    bos_id: int
    eos_id: int

    def never_generated(self, rows: int) -> set[int]: ...


class TranslationReferences(Protocol):
    """What a split's evaluation needs: tokenizer and ids for generation, the target language (for the compound BLEU), all
    texts, and the line in the file of each row."""

    tokenizer: Detokenizer
    template: TargetIds
    language: str
    sources: list[str]
    targets: list[str]
    row: list[int]


@dataclass(frozen=True, kw_only=True)
class TranslationEvaluation(Evaluation):
    percent_metrics = frozenset({"bleu", "compound_bleu"})
    free_text = True

    ids: Sequence[int]
    sources: Sequence[str]
    targets: Sequence[str]
    predictions: Sequence[str]
    sums: Sequence[tuple[float, float]] = ()  # of each pair: -log P of the reference in nats, and its tokens

    def rows(self) -> Iterator[PredictionRow]:
        for row_id, source, target, prediction in zip(
            self.ids, self.sources, self.targets, self.predictions, strict=True
        ):
            yield {"id": row_id, "prediction": prediction, "label": target, "source": source}

    def example_sums(self) -> Mapping[str, Sequence[float]]:
        losses, tokens = zip(*self.sums, strict=True) if self.sums else ((), ())
        return {"log_likelihood": [-loss for loss in losses], "tokens": tokens}


class TranslationModule(TaskModule[TranslationBatch, TranslationReferences]):
    """`label_smoothing` is epsilon; `alpha` the exponent of the length penalty, `max_extra_tokens` how many tokens longer
    than its source a target may be (section 6.1). The score is BLEU."""

    metrics: ClassVar[tuple[str, ...]] = ("bleu",)
    decodes = True
    other_command = "; a translation run translates them: protoformer translate RUN --file FILE"
    backbone: EncoderDecoder

    def __init__(
        self,
        *,
        backbone: EncoderDecoder,
        splits: Mapping[Stage, Sequence[str]],
        label_smoothing: float = 0.0,
        beams: int = 4,
        dev_beams: int = 1,
        alpha: float = 0.6,
        max_extra_tokens: int = 50,
        optimization: Optimization | None = None,
    ) -> None:
        super().__init__(optimization)
        if not isinstance(backbone, EncoderDecoder):
            raise ConfigurationError("translation needs an encoder-decoder, such as model=transformer")
        if not 0 <= label_smoothing < 1:
            raise ConfigurationError(f"recipe.label_smoothing={label_smoothing}: from 0 (none) to below 1")
        self.backbone = backbone
        self.splits, self.label_smoothing, self.max_extra_tokens = splits, label_smoothing, max_extra_tokens
        self.dev_beam, self.beam = (
            BeamParams(num_beams=count, length_penalty="gnmt", alpha=alpha) for count in (dev_beams, beams)
        )

    def forward(
        self, batch: TranslationBatch
    ) -> tuple[Float[Tensor, "targets"], Float[Tensor, "targets"], Int[Tensor, "targets"]]:
        """Smoothed loss, plain loss and row in the batch of each target token."""
        hidden = self.backbone(
            batch["ids"],
            batch["padding_mask"],
            batch["decoder_ids"],
            batch["decoder_mask"],
            batch.get("lengths"),
            batch.get("decoder_lengths"),
        )
        row, column = nonzero_indices(batch["target_ids"] >= 0, batch.get("target_count"))
        tokens, target = hidden.gather(row, column), batch["target_ids"][row, column]
        weight = self.backbone.output_weight
        if self.backbone.bias is not None:  # as one more dimension, where every token is 1
            tokens = torch.cat([tokens, tokens.new_ones(len(tokens), 1)], dim=1)
            weight = torch.cat([weight, self.backbone.bias[:, None]], dim=1)
        plain = linear_cross_entropy(tokens, weight, target)
        if not self.label_smoothing:
            return plain, plain, row
        return label_smoothed(plain, tokens, weight, target, self.label_smoothing), plain, row

    def dummy_batch(self, batch: int, seq: int) -> TranslationBatch:
        zeros, real = torch.zeros(batch, seq, dtype=torch.long), torch.ones(batch, seq, dtype=torch.bool)
        return TranslationBatch(
            ids=zeros,
            padding_mask=real,
            decoder_ids=zeros,
            decoder_mask=real,
            target_ids=zeros,
            example_ids=zeros[:, 0],
        )

    def flops(self, batch: TranslationBatch) -> Tensor:
        """Operations of both stacks (6 a weight and token), attention (12 a layer, dimension and token pair) and softmax."""
        sources = row_lengths(batch.get("lengths"), batch["padding_mask"])
        targets = row_lengths(batch.get("decoder_lengths"), batch["decoder_mask"])
        model, (encoder, decoder) = self.backbone, self._stack_weights
        pairs = 12.0 * model.d_model * ((sources**2).sum() + (targets**2).sum() + (sources * targets).sum())
        layers = len(getattr(model.decoder, "layers", ()))
        softmax = 6.0 * model.output_weight.numel() * targets.sum()
        return 6.0 * (encoder * sources.sum() + decoder * targets.sum()) + layers * pairs + softmax

    @cached_property
    def _stack_weights(self) -> tuple[float, float]:
        """Parameters of both stacks, counted once."""
        encoder, decoder = self.backbone.encoder, self.backbone.decoder
        return float(sum(p.numel() for p in encoder.parameters())), float(sum(p.numel() for p in decoder.parameters()))

    def loss(self, batch: TranslationBatch) -> Loss:
        smoothed, plain, _ = self(batch)
        count = smoothed.new_full((), float(len(smoothed)))
        return Loss(smoothed.sum(), count, {"plain_loss": (plain.sum(), count)})

    def eval_step(self, batch: TranslationBatch) -> EvalOutputs:
        """Of each pair: id; sums of plain loss and smoothed loss, and number of tokens, `(examples, 3)`; the generated ids,
        `(examples, max_seq_len)`, -1 behind them."""
        smoothed, plain, row = self(batch)
        sums = torch.zeros(len(batch["ids"]), 3, dtype=torch.double, device=plain.device)
        # a term a target token, summed by the row of its sentence
        sums.index_add_(0, row, torch.stack([plain, smoothed, torch.ones_like(plain)], dim=1).double())
        template = next(
            iter(references for splits in self.references.values() for references in splits.values())
        ).template
        # without a trainer (`probe ablate`) it is a dev split
        beam = self.beam if self._trainer is not None and self._trainer.testing else self.dev_beam
        never = template.never_generated(self.backbone.target_vocab_size)
        params = Seq2SeqParams(template.bos_id, template.eos_id, never, beam, self.max_extra_tokens)
        generated = torch.full((len(sums), self.backbone.max_seq_len), -1, dtype=torch.int32)
        for row_index, hypotheses in enumerate(
            generate_targets(self.backbone, batch["ids"], batch["padding_mask"], params)
        ):
            tokens = best_tokens(hypotheses, template.eos_id)
            generated[row_index, : len(tokens)] = torch.tensor(tokens, dtype=torch.int32)
        real = batch["example_ids"] >= 0
        return batch["example_ids"][real], sums[real], generated[real.cpu()]

    def evaluate(self, stage: Stage, split: str, outputs: EvalOutputs) -> TranslationEvaluation:
        ids, sums, generated = outputs
        plain, smoothed, count = sums.sum(0).tolist()
        loss = plain / max(1.0, count)
        references = self.references[stage][split]
        predictions = [
            references.tokenizer.decode([token for token in row if token >= 0]).strip() for row in generated.tolist()
        ]
        sources, targets = ([texts[i] for i in ids.tolist()] for texts in (references.sources, references.targets))
        bleus = {"bleu": bleu(predictions, targets, language=references.language)}
        if "|tok:13a|" in bleus["bleu"].signature:  # Moses cuts at spaces, too
            bleus["compound_bleu"] = compound_bleu(predictions, targets, references.language)
        return TranslationEvaluation(
            scores={"bleu": bleus["bleu"].score / 100},
            other_metrics={
                **{name: score.score / 100 for name, score in bleus.items() if name != "bleu"},
                "loss": loss,
                "smoothed_loss": smoothed / max(1.0, count),
                "perplexity": math.exp(min(loss, 700.0)),
            },
            notes={name: score.signature for name, score in bleus.items()},
            ids=[references.row[i] for i in ids.tolist()],
            sources=sources,
            targets=targets,
            predictions=predictions,
            sums=[(loss, tokens) for loss, _, tokens in sums.tolist()],
        )
