"""Scored choices and completions as tables: which choice has the best score, and which ones are right."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from protoformer.data.prompts.datamodule import InContextReferences
from protoformer.data.prompts.examples import PromptExample
from protoformer.data.prompts.table import prompt_hash
from protoformer.modules.evaluation import PredictionRow
from protoformer.scoring import in_context
from protoformer.scoring.calibration import AnswerScores, LabelScores
from protoformer.scoring.in_context import Normalization


@dataclass(frozen=True)
class ScoredExamples:
    """Examples whose sequences have all been scored, in order of draw and row; a completion that one lacks has a log P of
    nan."""

    example: Int[Tensor, "examples"]
    log_probs: Float[Tensor, "examples choices"]
    tokens: Int[Tensor, "examples choices"]
    text_bytes: Int[Tensor, "examples choices"]
    is_greedy: Bool[Tensor, "examples choices"]
    further: Float[Tensor, "examples choices further"]  # what a task's metrics need besides
    unconditional: Float[Tensor, "examples choices"] | None
    gold: Int[Tensor, "examples"]
    draw: Int[Tensor, "examples"]
    group: Int[Tensor, "examples"]

    @classmethod
    def collect(
        cls,
        references: InContextReferences,
        numbers: Int[Tensor, "sequences"],
        values: Float[Tensor, "sequences values"],
    ) -> "ScoredExamples":
        """Sequences as rows of their examples."""
        table = references.table
        first = torch.as_tensor(np.array(table.first_sequence))
        counts = first.diff()
        width = int(counts.max())
        example_of = torch.repeat_interleave(torch.arange(len(table)), counts)[numbers]
        column = numbers - first[example_of]
        grid = torch.full((len(table), width, values.shape[1]), math.nan, dtype=torch.double)
        grid[example_of, column] = values
        text_bytes = torch.zeros(len(table), width, dtype=torch.long)
        text_bytes[example_of, column] = torch.as_tensor(np.array(table.completion_bytes))[numbers]
        seen = torch.zeros(len(table), dtype=torch.long).index_add_(0, example_of, torch.ones_like(example_of))
        whole = (seen == counts).nonzero().squeeze(1)
        grid, text_bytes = grid[whole], text_bytes[whole]
        unconditional = None
        if references.has_unconditional:  # the second half of each example's sequences
            half = counts[whole, None] // 2
            index = torch.arange(width // 2) + half
            unconditional = grid[..., 0].gather(1, index.clamp(max=width - 1))
            present = torch.arange(width // 2) < half
            unconditional = unconditional.masked_fill(~present, math.nan)
            grid, text_bytes = grid[:, : width // 2].clone(), text_bytes[:, : width // 2]
            grid[~present] = math.nan
        return cls(
            example=whole,
            log_probs=grid[..., 0],
            tokens=grid[..., 1].nan_to_num().long(),
            text_bytes=text_bytes,
            is_greedy=grid[..., 2] == 1,
            further=grid[..., 3:],
            unconditional=unconditional,
            **{
                name: torch.as_tensor(np.array(getattr(table, name)))[whole].long()
                for name in ("gold", "draw", "group")
            },
        )

    def choose(self, normalization: Normalization) -> Int[Tensor, "examples"]:
        return in_context.choose(self.log_probs, self.tokens, self.text_bytes, self.unconditional, normalization)

    def confidences(
        self, references: InContextReferences, normalization: Normalization
    ) -> LabelScores | AnswerScores | None:
        """What choices are chosen by; None where references are hidden. Where examples have several right choices, one is right
        or wrong."""
        if bool((self.gold < 0).any()):
            return None
        scores = in_context.scores(
            self.log_probs, self.tokens, self.text_bytes, self.unconditional, normalization
        ).numpy()
        right = self.right(references)
        if bool((right.sum(1) == 1).all()):
            return LabelScores(scores, right.int().argmax(1).numpy())
        chosen = self.choose(normalization)
        return AnswerScores(scores, chosen.numpy(), right.gather(1, chosen[:, None]).squeeze(1).numpy())

    def examples(self, references: InContextReferences) -> list[PromptExample]:
        """What each was made of."""
        return [references.example(number) for number in self.example.tolist()]

    def right(self, references: InContextReferences) -> Bool[Tensor, "examples choices"]:
        """Which choices are right: the gold one, or all those whose text is an answer."""
        columns = torch.arange(self.log_probs.shape[1])
        right = columns == self.gold[:, None]
        for index, example in enumerate(self.examples(references)):
            for column, text in enumerate(example.options if example.answers else ()):
                right[index, column] = text in example.answers
        return right

    def rows(self, references: InContextReferences, normalization: Normalization) -> Iterator[PredictionRow]:
        """Records of predictions: the answer, the right one, log P of each completion, and the digest of the prompt."""
        is_choice = references.answer_type == "choice"
        best = self.choose(normalization).tolist() if is_choice else []
        for index, number in enumerate(self.example.tolist()):
            example = references.example(number)
            present = [value for value in self.log_probs[index].tolist() if not math.isnan(value)]
            label = example.completions[example.gold].strip() if example.gold >= 0 else None
            greedy = bool(self.is_greedy[index, 0])
            yield {
                "id": number,
                "row": example.row,
                **({"turn": example.turn} if example.turn else {}),
                "draw": int(self.draw[index]),
                # of a completion that greedy decoding does not write nothing else is known
                "prediction": example.completions[best[index]].strip() if is_choice else label if greedy else None,
                "label": label,
                "log_probs": [round(value, 5) for value in present],
                "prompt": prompt_hash(references.table.sequences(number)[0].ids),
            }
