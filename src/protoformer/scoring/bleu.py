"""BLEU (Papineni et al. 2002), by sacreBLEU, and as the 2017 paper counted it.

sacreBLEU tokenises for itself, and says by its signature how. The paper's numbers (arXiv 1706.03762, table 2) were counted on
Moses' tokens whose compounds were split at their hyphens, `rich-text` into `rich ##AT##-##AT## text`, on both sides, as its
code did; such a number is higher, for English to German by about 0.7 to 1.0. Both are on the scale of 0 to 100.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

HYPHEN = re.compile(r"(\S)-(\S)")


@dataclass(frozen=True)
class Bleu:
    """The number, 0 to 100, and how it was come by."""

    score: float
    signature: str


def bleu(hypotheses: Sequence[str], references: Sequence[str], tokenize: str | None = None) -> Bleu:
    """sacreBLEU of a corpus: texts as they are, a reference each. Raises ValueError where their numbers differ, or are 0."""
    from sacrebleu.metrics import BLEU

    _check(hypotheses, references)
    metric = BLEU(
        tokenize=tokenize, force=True
    )  # without a word on texts that end in a full stop with a space before it
    found = metric.corpus_score(list(hypotheses), [list(references)])
    return Bleu(min(100.0, found.score), str(metric.get_signature()))


def compound_bleu(hypotheses: Sequence[str], references: Sequence[str], language: str) -> Bleu:
    """BLEU without smoothing of Moses' tokens for `language`, compounds split at their hyphens."""
    from sacrebleu.metrics import BLEU

    _check(hypotheses, references)
    metric = BLEU(tokenize="none", smooth_method="none", force=True)
    sides = [[compounds_split(moses(text, language)) for text in texts] for texts in (hypotheses, references)]
    found = metric.corpus_score(sides[0], [sides[1]])
    return Bleu(min(100.0, found.score), f"{metric.get_signature()}|moses:{language}|compounds:split")


def moses(text: str, language: str) -> str:
    """Moses' tokens with spaces between them, by sacremoses; nothing is escaped."""
    return str(_tokenizer(language).tokenize(text, return_str=True, escape=False))


def compounds_split(tokens: str) -> str:
    """Tokens, with those that hold a hyphen cut there."""
    return HYPHEN.sub(r"\1 ##AT##-##AT## \2", tokens)


@cache
def _tokenizer(language: str) -> Any:
    from sacremoses import MosesTokenizer

    return MosesTokenizer(lang=language)


def _check(hypotheses: Sequence[str], references: Sequence[str]) -> None:
    if len(hypotheses) != len(references) or not references:
        raise ValueError(f"{len(hypotheses)} hypotheses and {len(references)} references: as many, and at least one")
