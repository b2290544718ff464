"""BLEU (Papineni et al. 2002), by sacreBLEU (Post 2018), and as the 2017 paper counted it.

    BLEU = 100 min(1, exp(1 - r / c)) exp(mean over n = 1..4 of log p_n)

of a corpus: c and r are the lengths of hypotheses and references, p_n the fraction of the hypotheses' n-grams that are in their
reference, each counted at most as often as there. sacreBLEU tokenises by itself, and its signature says how. The paper's
numbers (arXiv 1706.03762, table 2) are of Moses' tokens with compounds split at hyphens, `rich-text` to
`rich ##AT##-##AT## text`, on both sides, as its code did; such a number is higher, for English to German by 0.7 to 1.0.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from sacrebleu.metrics import BLEU

from protoformer.scoring.bleu_tokenizers import tokenizer_of

HYPHEN = re.compile(r"(\S)-(\S)")


@dataclass(frozen=True)
class Bleu:
    """A score, 0 to 100, and sacreBLEU's signature: how it was computed."""

    score: float
    signature: str


def bleu(
    hypotheses: Sequence[str], references: Sequence[str], tokenize: str | None = None, *, language: str | None = None
) -> Bleu:
    """sacreBLEU of a corpus of detokenised texts, one reference each. Raises ValueError where counts differ or are 0.

    `tokenize` is sacreBLEU's tokenizer; None: that of the references' script and `language`.
    """
    _check(hypotheses, references)
    metric = BLEU(
        tokenize=tokenize or tokenizer_of(references, language), force=True
    )  # force: no warning where texts look tokenised
    result = metric.corpus_score(list(hypotheses), [list(references)])
    return Bleu(min(100.0, result.score), str(metric.get_signature()))


def compound_bleu(hypotheses: Sequence[str], references: Sequence[str], language: str) -> Bleu:
    """BLEU without smoothing of Moses' tokens for `language`, compounds split at their hyphens."""
    _check(hypotheses, references)
    metric = BLEU(tokenize="none", smooth_method="none", force=True)
    sides = [[split_compounds(moses(text, language)) for text in texts] for texts in (hypotheses, references)]
    result = metric.corpus_score(sides[0], [sides[1]])
    return Bleu(min(100.0, result.score), f"{metric.get_signature()}|moses:{language}|compounds:split")


def moses(text: str, language: str) -> str:
    """Moses' tokens with spaces between them, by sacremoses; nothing is escaped."""
    return str(_tokenizer(language).tokenize(text, return_str=True, escape=False))


def split_compounds(tokens: str) -> str:
    """Tokens, with those that hold a hyphen cut there."""
    return HYPHEN.sub(r"\1 ##AT##-##AT## \2", tokens)


@cache
def _tokenizer(language: str) -> Any:
    from sacremoses import MosesTokenizer  # half a second, and only translation needs it

    return MosesTokenizer(lang=language)


def _check(hypotheses: Sequence[str], references: Sequence[str]) -> None:
    if len(hypotheses) != len(references) or not references:
        raise ValueError(
            f"{len(hypotheses)} hypotheses and {len(references)} references: the numbers must be equal, and at least one"
        )
