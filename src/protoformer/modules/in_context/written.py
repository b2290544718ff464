"""Evaluation of answers that the model writes: SQuAD's metrics, those of a task's own official script, BLEU and ROUGE."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from protoformer.data.prompts.datamodule import InContextReferences
from protoformer.data.prompts.examples import PromptExample
from protoformer.data.prompts.table import prompt_hash
from protoformer.modules.evaluation import PredictionRow, Ratios
from protoformer.modules.in_context.evaluation import InContextEvaluation, Measured, Selected
from protoformer.scoring import rouge, squad
from protoformer.scoring.bleu import bleu
from protoformer.scoring.in_context import Metric
from protoformer.scoring.question_answering import conversations, drop

QUAC: Mapping[str, str] = {"quac_f1": "f1", "heq_q": "heq_q", "heq_d": "heq_d"}


def evaluate_answers(
    references: InContextReferences,
    numbers: Int[Tensor, "sequences"],
    answers: Int[Tensor, "sequences longest"],
    main: Sequence[Metric],
) -> InContextEvaluation:
    """Exact match and F1 of SQuAD's normalised words, and where the task asks for them the official metrics of its data set,
    BLEU, or ROUGE."""
    table = references.table
    example = torch.as_tensor(np.searchsorted(table.first_sequence, numbers.numpy(), side="right") - 1)
    texts = [references.tokenizer.decode([token for token in row if token >= 0]).strip() for row in answers.tolist()]
    examples = [references.example(number) for number in example.tolist()]
    gold = [each.answers for each in examples]
    pairs = list(zip(texts, gold, strict=True))
    per_example: dict[str, Tensor] = {
        "exact_match": torch.tensor([squad.exact_match(*pair) for pair in pairs], dtype=torch.double),
        "f1": torch.tensor([squad.f1(*pair) for pair in pairs], dtype=torch.double),
    }
    if any(name in rouge.METRICS for name in main):
        per_example |= {name: torch.tensor(each, dtype=torch.double) for name, each in rouge.rouge(texts, gold).items()}
    per_example |= _official(texts, examples, main)
    of_draw: dict[str, Callable[[Selected], float]] = {}
    notes: dict[str, str] = {}
    draw, group = (torch.as_tensor(np.array(getattr(table, name)))[example] for name in ("draw", "group"))
    ratios = _quac(texts, examples, draw.tolist()) if "quac_f1" in main else {}
    if "bleu" in main:
        first = [each[0] for each in gold]
        notes["bleu"] = bleu(texts, first).signature
        of_draw["bleu"] = _Bleu(texts, first)
    predictions: list[PredictionRow] = [
        {
            "id": number,
            "row": int(table.row[number]),
            **({"turn": int(table.turn[number])} if table.turn[number] else {}),
            "draw": int(table.draw[number]),
            "prediction": text,
            "label": list(right),
            "prompt": prompt_hash(table.sequences(number)[0].ids),
        }
        for number, text, right in zip(example.tolist(), texts, gold, strict=True)
    ]
    return Measured(per_example, draw, group, of_draw, ratios).evaluation(references, main, predictions, **notes)


def _official(texts: Sequence[str], examples: Sequence[PromptExample], main: Sequence[Metric]) -> dict[str, Tensor]:
    """CoQA's and DROP's metrics of each answer. A written answer is one phrase."""
    values: dict[str, list[float]] = {}
    if any(name.startswith("coqa_") for name in main):
        annotators = [[" ".join(phrases) for phrases in each.references] for each in examples]
        values["coqa_exact_match"] = list(map(conversations.coqa_exact_match, texts, annotators))
        values["coqa_f1"] = list(map(conversations.coqa_f1, texts, annotators))
    if any(name.startswith("drop_") for name in main):
        values["drop_exact_match"] = [
            drop.exact_match([text], each.references) for text, each in zip(texts, examples, strict=True)
        ]
        values["drop_f1"] = [drop.f1([text], each.references) for text, each in zip(texts, examples, strict=True)]
    return {name: torch.tensor(each, dtype=torch.double) for name, each in values.items()}


def _quac(texts: Sequence[str], examples: Sequence[PromptExample], draws: Sequence[int]) -> Ratios:
    """QuAC's scores; the turns of a row under one draw of shots are a dialog."""
    summands = conversations.quac_summands(
        texts,
        [[" ".join(phrases) for phrases in each.references] for each in examples],
        [(draw, each.row) for draw, each in zip(draws, examples, strict=True)],
    )
    return {name: summands[field] for name, field in QUAC.items()}


@dataclass(frozen=True)
class _Bleu:
    """BLEU of the selected answers."""

    texts: Sequence[str]
    references: Sequence[str]

    def __call__(self, selected: Selected) -> float:
        indices = selected.nonzero().squeeze(1).tolist()
        return bleu([self.texts[index] for index in indices], [self.references[index] for index in indices]).score / 100
