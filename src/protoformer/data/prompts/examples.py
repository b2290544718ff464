"""An example as text: the contexts and completions of its choices, or the answers that count as right."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class PromptExample:
    """A row, or a turn of the conversation in one, as text: `contexts[i] + completions[i]` is choice i, of which `gold` is
    right (-1: hidden).

    Where the answer is written by the model, `answers` are those that count as right, and the one completion is the first of
    them, as a shot shows it; `references` are those of each annotator, repeated where two agree, each a phrase or several.
    Where several choices are right, `answers` are the texts of these, and `options` those of all.
    `number` is the label as a number, of a task whose choices are numbers. Examples of one `group` are no independent
    measurements: they share a passage. Examples of one `question` are the answers to it, right or wrong.
    """

    row: int
    contexts: Sequence[str]
    completions: Sequence[str]
    gold: int
    group: str
    answers: Sequence[str] = ()
    references: Sequence[Sequence[str]] = ()
    options: Sequence[str] = ()
    question: str = ""
    number: float = math.nan
    turn: int = 0

    @property
    def key(self) -> tuple[int, int]:
        """The row and the turn, which no other example of the split has."""
        return self.row, self.turn

    @property
    def shot(self) -> str:
        """The example with its right answer, as a demonstration."""
        return self.contexts[self.gold] + self.completions[self.gold]


@dataclass(frozen=True)
class PromptExamples:
    """The usable examples of a split, and how many rows were skipped, by reason."""

    examples: Sequence[PromptExample]
    skipped: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict)
