"""Vocabularies learnt from text, by the `tokenizers` library: WordPiece as BERT's, BPE as GPT's, byte-level BPE as GPT-2's.

WordPiece: BERT (arXiv 1810.04805), section 3, by way of arXiv 1609.08144. BPE: GPT (Radford et al. 2018), section 4.1, by way
of arXiv 1508.07909. Byte-level: GPT-2 (Radford et al. 2019), section 2.2. The same texts give the same vocabulary, in any order
and with any number of threads. The library alone numbers the letters that carry a mark (`##a`, `a</w>`) in an order that
changes from run to run, and breaks ties by those numbers; so here they are numbered before it starts.

Differs: BERT's own trainer was never published; the library's chooses the most frequent pair, as BPE does, and writes it as
WordPiece. GPT's words were split by spaCy and ftfy, here as BERT's are (which is what `transformers` does, too).
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, assert_never

from tokenizers import Tokenizer as HFTokenizer
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from protoformer.errors import UserError
from protoformer.text.tokenizers import (
    BERT_SPECIAL,
    END,
    END_OF_TEXT,
    UNKNOWN_WORD,
    Tokenizer,
    byte_level_bpe,
    end_of_word_bpe,
)

Kind = Literal["wordpiece", "bpe", "bytelevel"]
UNKNOWN: dict[Kind, str] = {"wordpiece": "[UNK]", "bpe": UNKNOWN_WORD}
LETTERS = 1000  # BERT's own vocabulary has 997
LEAST = 2  # times that a pair is seen before it becomes a token
LONGEST = 100  # letters of a word; WordPiece reads a longer one as unknown, as BERT's code does
PIECE = 1 << 16  # characters that are read at once; a longer text is cut at a space
SEEN = 10_000  # texts that coverage is told of


def train(
    texts: Callable[[], Iterable[str]],
    kind: Kind,
    size: int,
    *,
    cased: bool = False,
    letters: int = LETTERS,
    progress: bool = False,
) -> Tokenizer:
    """A vocabulary of `size` tokens, or fewer where no pair of tokens is left that was seen twice.

    `texts` is called twice, for the letters and for the words, and never held as a whole. WordPiece and BPE keep the `letters`
    most frequent ones, each alone and with its mark; all others are unknown. Byte-level BPE knows every byte and is always
    cased. Raises UserError where there is no text, or `size` leaves no room for more than special tokens and letters.
    """
    if letters < 1:
        raise UserError(f"{letters} letters are too few; at least 1")
    hf_tokenizer = _untrained(kind, cased)
    counts = _letters(texts(), hf_tokenizer.normalizer)
    if not counts:
        raise UserError("there is no text to learn a vocabulary from")
    known = sorted(sorted(counts, key=lambda letter: (-counts[letter], letter))[:letters])
    last: list[str] = []
    match kind:
        case "wordpiece":
            first = [*BERT_SPECIAL, *known, *(f"##{letter}" for letter in known)]
        case "bpe":
            first = [UNKNOWN["bpe"], *known, *(f"{letter}{END}" for letter in known)]
        case "bytelevel":
            known = sorted(pre_tokenizers.ByteLevel.alphabet())
            first, last = known, [END_OF_TEXT]
        case _:
            assert_never(kind)
    fixed = len(first) + len(last)
    if size <= fixed:
        raise UserError(
            f"a vocabulary of {size:,} tokens is too small: the special tokens and {len(known):,} letters"
            f"{'' if kind == 'bytelevel' else ', each alone and with its mark,'} are {fixed:,} already"
        )
    options: dict[str, Any] = {
        "vocab_size": size,
        "min_frequency": LEAST,
        "special_tokens": [*first, *last],  # so that each has its number before the first word is read
        "initial_alphabet": known,
        "limit_alphabet": len(known),
        "show_progress": progress,
    }
    hf_tokenizer.train_from_iterator(_pieces(texts()), _trainer(kind, options))
    return Tokenizer(_renumbered(hf_tokenizer, kind, first, last), "trained")


@dataclass(frozen=True)
class Coverage:
    """How a vocabulary fits texts: how many texts, words and tokens, and tokens that are unknown."""

    texts: int
    words: int
    tokens: int
    unknown: int


def coverage(tokenizer: Tokenizer, kind: Kind, texts: Iterable[str], most: int = SEEN) -> Coverage:
    """Of the first `most` texts."""
    unknown = tokenizer.id(UNKNOWN[kind]) if kind in UNKNOWN else None
    seen = [0, 0, 0, 0]
    for _, text in zip(range(most), _pieces(texts), strict=False):
        encoding = tokenizer.hf_tokenizer.encode(text, add_special_tokens=False)
        words = {word for word in encoding.word_ids if word is not None}
        found = (1, len(words), len(encoding.ids), sum(number == unknown for number in encoding.ids))
        seen = [before + now for before, now in zip(seen, found, strict=True)]
    return Coverage(*seen)


def _untrained(kind: Kind, cased: bool) -> HFTokenizer:
    match kind:
        case "wordpiece":
            hf_tokenizer = HFTokenizer(models.WordPiece(unk_token=UNKNOWN[kind]))
            hf_tokenizer.decoder = decoders.WordPiece()
        case "bpe":
            hf_tokenizer = HFTokenizer(models.BPE(unk_token=UNKNOWN[kind], end_of_word_suffix=END))
            hf_tokenizer.decoder = decoders.BPEDecoder(suffix=END)
        case "bytelevel":
            hf_tokenizer = HFTokenizer(models.BPE())
            hf_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
            hf_tokenizer.decoder = decoders.ByteLevel()
            hf_tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
            return hf_tokenizer
        case _:
            assert_never(kind)
    hf_tokenizer.normalizer = normalizers.BertNormalizer(lowercase=not cased)
    hf_tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return hf_tokenizer


def _trainer(kind: Kind, options: dict[str, Any]) -> Any:
    if kind == "wordpiece":
        return trainers.WordPieceTrainer(**options)
    marked: dict[str, Any] = {"end_of_word_suffix": END} if kind == "bpe" else {}
    return trainers.BpeTrainer(**options, **marked)


def _letters(texts: Iterable[str], normalizer: Any) -> Counter[str]:
    """How often each letter stands in the texts once they are normalised, which is done letter by letter."""
    raw: Counter[str] = Counter()
    for text in texts:
        raw.update(text)
    counts: Counter[str] = Counter()
    for letter, times in raw.items():
        written = letter if normalizer is None else normalizer.normalize_str(letter)
        counts.update({one: times for one in written if not one.isspace()})
    return counts


def _pieces(texts: Iterable[str]) -> Iterator[str]:
    """The library keeps a place for every letter of a text, so a book in one line is read in pieces."""
    for text in texts:
        begin = 0
        while len(text) - begin > PIECE:
            space = text.rfind(" ", begin + 1, begin + PIECE)
            end = space if space > 0 else begin + PIECE
            yield text[begin:end]
            begin = end
        yield text[begin:]


def _renumbered(hf_tokenizer: HFTokenizer, kind: Kind, first: list[str], last: list[str]) -> HFTokenizer:
    """The same vocabulary in the order of the published ones, its special tokens no others than theirs."""
    model = json.loads(hf_tokenizer.to_str())["model"]
    learnt = sorted(set(model["vocab"]) - {*first, *last}, key=model["vocab"].__getitem__)
    vocab = {token: number for number, token in enumerate([*first, *learnt, *last])}
    if kind == "wordpiece":
        whole = _untrained(kind, cased=False)
        whole.model = models.WordPiece(vocab, unk_token=UNKNOWN[kind], max_input_chars_per_word=LONGEST)
        whole.add_special_tokens([*BERT_SPECIAL])
    else:
        merges = [(left, right) for left, right in model["merges"]]
        whole = end_of_word_bpe(vocab, merges) if kind == "bpe" else byte_level_bpe(vocab, merges)
    if hf_tokenizer.normalizer is not None:
        whole.normalizer = hf_tokenizer.normalizer
    return whole
