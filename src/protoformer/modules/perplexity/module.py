"""Perplexity of a causal language model on running text, without training (Radford et al. 2019, section 3.1)."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from protoformer.batches import LanguageBatch
from protoformer.data.running_text.datamodule import PerplexityReferences
from protoformer.incontext.window_losses import window_losses
from protoformer.models.backbone import Backbone
from protoformer.modules.decoder_evaluation import DecoderEvaluationModule
from protoformer.modules.evaluation import EvalOutputs, Evaluation, PredictionRow, Stage
from protoformer.optim.optimization import Optimization
from protoformer.scoring.perplexity import UNITS, Measure, measures


@dataclass(frozen=True, kw_only=True)
class PerplexityEvaluation(Evaluation):
    free_text = True

    texts: Sequence[PredictionRow]
    windows: Sequence[int] = ()  # of the first stride
    window_losses: Sequence[float] = ()  # -log P of what each scores, in nats
    window_tokens: Sequence[int] = ()

    def rows(self) -> Iterator[PredictionRow]:
        """A row for each text: -log P under each stride."""
        return iter(self.texts)

    def example_ids(self) -> Sequence[int]:
        """Windows of the first stride."""
        return self.windows

    def example_sums(self) -> Mapping[str, Sequence[float]]:
        return {"log_likelihood": [-loss for loss in self.window_losses], "tokens": self.window_tokens}


class PerplexityModule(DecoderEvaluationModule[LanguageBatch, PerplexityReferences]):
    """Each text is scored with each stride, and every measure's name ends in its stride. `measure` is the one that the data
    set's papers print; the task's score is the probability that belongs to it under the first stride, exp(-loss / units)."""

    purpose = "perplexities"

    def __init__(
        self,
        *,
        backbone: Backbone,
        splits: Mapping[Stage, Sequence[str]],
        measure: Measure = "perplexity_per_token",
        optimization: Optimization | None = None,
    ) -> None:
        super().__init__(backbone, splits, optimization)
        self.measure = measure

    def dummy_batch(self, batch: int, seq: int) -> LanguageBatch:
        zeros = torch.zeros(batch, seq, dtype=torch.long)
        mask = torch.ones(batch, seq, dtype=torch.bool)
        return LanguageBatch(ids=zeros, padding_mask=mask, target_ids=zeros, example_ids=zeros[:, 0])

    def eval_step(self, batch: LanguageBatch) -> EvalOutputs:
        """Numbers of windows, and the sum of -log P over what each scores."""
        real = batch["example_ids"] >= 0
        return batch["example_ids"][real], window_losses(self.backbone, batch)[real]

    def evaluate(self, stage: Stage, split: str, outputs: EvalOutputs) -> PerplexityEvaluation:
        numbers, losses = outputs
        return evaluate_windows(self.references[stage][split], numbers, losses, self.measure)


def evaluate_windows(
    references: PerplexityReferences, numbers: torch.Tensor, losses: torch.Tensor, measure: Measure
) -> PerplexityEvaluation:
    """The measures of all windows, stride by stride; `numbers` say which window each loss is of."""
    table = references.table
    counts = {name: int(table.stats[name]) for name in UNITS.values()}
    if counts["original_tokens"] == counts["words"]:  # the data set counts words alone
        del counts["original_tokens"]
    whole = torch.full((len(table),), math.nan, dtype=torch.double)
    whole[numbers] = losses.double().cpu()
    stride_of, text_of = torch.tensor(table.stride.tolist()), torch.tensor(table.text.tolist())
    rows: list[PredictionRow] = [
        {"id": number, "prediction": None, "label": None, "tokens": int(tokens) - 1}
        for number, tokens in enumerate(table.offsets[1:] - table.offsets[:-1])
    ]
    all_measures: dict[str, float] = {}
    for stride in references.strides:
        own = (stride_of == stride).nonzero().squeeze(1)
        sums = torch.zeros(len(rows), dtype=torch.double).index_add_(0, text_of[own], whole[own])
        for row, value in zip(rows, sums.tolist(), strict=True):
            row[f"negative_log_likelihood_stride_{stride}"] = value
        for name, value in measures(float(sums.sum()), counts).items():
            all_measures[f"{name}_stride_{stride}"] = value
    first = references.strides[0]
    main = all_measures[f"{measure}_stride_{first}"]
    probability = 1 / main if measure.startswith("perplexity") else 2.0**-main
    own = (stride_of == first).nonzero().squeeze(1)
    unit = UNITS[measure].removesuffix("s")
    return PerplexityEvaluation(
        scores={f"probability_per_{unit}_stride_{first}": probability},
        other_metrics=all_measures,
        notes={
            "windows": f"of {references.window} tokens, strides {', '.join(map(str, references.strides))}",
            "de-tokenisers": ", ".join(references.detokenizers) or "none",
        },
        texts=rows,
        windows=own.tolist(),
        window_losses=whole[own].tolist(),
        window_tokens=[int(each) for each in table.targets[own.numpy()]],
    )
