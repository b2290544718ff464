"""Training of vocabularies, by the `tokenizers` library: WordPiece as BERT's, BPE as GPT's, byte-level BPE as GPT-2's.

WordPiece: BERT (arXiv 1810.04805), section 3, by way of arXiv 1609.08144. BPE: GPT (Radford et al. 2018), section 4.1, by way
of arXiv 1508.07909. Byte-level: GPT-2 (Radford et al. 2019), section 2.2. The same texts give the same vocabulary, in any order
and with any number of threads. The library's trainer gives ids to marked characters (`##a`, `a</w>`) in an order that changes
from run to run, and breaks ties by id; so here they get their ids before it starts.

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

VocabularyKind = Literal["wordpiece", "bpe", "bytelevel"]
UNKNOWN: dict[VocabularyKind, str] = {"wordpiece": "[UNK]", "bpe": UNKNOWN_WORD}
ALPHABET_SIZE = 1000  # characters; BERT's own vocabulary has 997
MIN_FREQUENCY = 2  # occurrences of a pair before it becomes a token
MAX_WORD_LENGTH = 100  # characters; WordPiece reads a longer word as unknown, as BERT's code does
PIECE = 1 << 16  # characters that are read at once; a longer text is cut at a space
COVERAGE_TEXTS = 10_000  # texts that coverage is measured on


def train(
    texts: Callable[[], Iterable[str]],
    kind: VocabularyKind,
    size: int,
    *,
    cased: bool = False,
    alphabet_size: int = ALPHABET_SIZE,
    progress: bool = False,
) -> Tokenizer:
    """A vocabulary of `size` tokens, or fewer where no pair of tokens is left that was seen twice.

    `texts` is called twice, to count characters and to train, and never held as a whole. WordPiece and BPE keep the
    `alphabet_size` most frequent characters, each alone and with its mark; all others are unknown. Byte-level BPE knows every
    byte and is always cased. Raises UserError where there is no text, or `size` is used up by special tokens and characters.
    """
    if alphabet_size < 1:
        raise UserError(f"{alphabet_size} letters are too few; at least 1")
    hf_tokenizer = _untrained(kind, cased)
    counts = _character_counts(texts(), hf_tokenizer.normalizer)
    if not counts:
        raise UserError("there is no text to learn a vocabulary from")
    alphabet = sorted(sorted(counts, key=lambda character: (-counts[character], character))[:alphabet_size])
    last: list[str] = []
    match kind:
        case "wordpiece":
            first = [*BERT_SPECIAL, *alphabet, *(f"##{character}" for character in alphabet)]
        case "bpe":
            first = [UNKNOWN["bpe"], *alphabet, *(f"{character}{END}" for character in alphabet)]
        case "bytelevel":
            alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
            first, last = alphabet, [END_OF_TEXT]
        case _:
            assert_never(kind)
    fixed = len(first) + len(last)
    if size <= fixed:
        raise UserError(
            f"a vocabulary of {size:,} tokens is too small: the special tokens and {len(alphabet):,} letters"
            f"{'' if kind == 'bytelevel' else ', each alone and with its mark,'} are {fixed:,} already"
        )
    options: dict[str, Any] = {
        "vocab_size": size,
        "min_frequency": MIN_FREQUENCY,
        "special_tokens": [*first, *last],  # so that each has its id before the first word is read
        "initial_alphabet": alphabet,
        "limit_alphabet": len(alphabet),
        "show_progress": progress,
    }
    hf_tokenizer.train_from_iterator(_pieces(texts()), _trainer(kind, options))
    return Tokenizer(_with_ordered_ids(hf_tokenizer, kind, first, last), "trained")


@dataclass(frozen=True)
class Coverage:
    """Counts over some texts: texts, words, tokens, and unknown tokens."""

    texts: int
    words: int
    tokens: int
    unknown: int


def coverage(
    tokenizer: Tokenizer, kind: VocabularyKind, texts: Iterable[str], max_texts: int = COVERAGE_TEXTS
) -> Coverage:
    """Coverage of the first `max_texts` texts."""
    unknown = tokenizer.id(UNKNOWN[kind]) if kind in UNKNOWN else None
    totals = [0, 0, 0, 0]
    for _, text in zip(range(max_texts), _pieces(texts), strict=False):
        encoding = tokenizer.hf_tokenizer.encode(text, add_special_tokens=False)
        words = {word for word in encoding.word_ids if word is not None}
        counts = (1, len(words), len(encoding.ids), sum(token_id == unknown for token_id in encoding.ids))
        totals = [total + count for total, count in zip(totals, counts, strict=True)]
    return Coverage(*totals)


def _untrained(kind: VocabularyKind, cased: bool) -> HFTokenizer:
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


def _trainer(kind: VocabularyKind, options: dict[str, Any]) -> Any:
    if kind == "wordpiece":
        return trainers.WordPieceTrainer(**options)
    marked: dict[str, Any] = {"end_of_word_suffix": END} if kind == "bpe" else {}
    return trainers.BpeTrainer(**options, **marked)


def _character_counts(texts: Iterable[str], normalizer: Any) -> Counter[str]:
    """Occurrences of each character in the normalised texts. Distinct characters are normalised once each."""
    raw: Counter[str] = Counter()
    for text in texts:
        raw.update(text)
    counts: Counter[str] = Counter()
    for character, count in raw.items():
        normalized = character if normalizer is None else normalizer.normalize_str(character)
        counts.update({each: count for each in normalized if not each.isspace()})
    return counts


def _pieces(texts: Iterable[str]) -> Iterator[str]:
    """Texts in pieces of at most PIECE characters: the library's memory grows with the length of a text."""
    for text in texts:
        begin = 0
        while len(text) - begin > PIECE:
            space = text.rfind(" ", begin + 1, begin + PIECE)
            end = space if space > 0 else begin + PIECE
            yield text[begin:end]
            begin = end
        yield text[begin:]


def _with_ordered_ids(
    hf_tokenizer: HFTokenizer, kind: VocabularyKind, first: list[str], last: list[str]
) -> HFTokenizer:
    """The same vocabulary with ids in the order of the published ones, and with their special tokens alone."""
    model = json.loads(hf_tokenizer.to_str())["model"]
    learned = sorted(set(model["vocab"]) - {*first, *last}, key=model["vocab"].__getitem__)
    vocab = {token: token_id for token_id, token in enumerate([*first, *learned, *last])}
    if kind == "wordpiece":
        whole = _untrained(kind, cased=False)
        whole.model = models.WordPiece(vocab, unk_token=UNKNOWN[kind], max_input_chars_per_word=MAX_WORD_LENGTH)
        whole.add_special_tokens([*BERT_SPECIAL])
    else:
        merges = [(left, right) for left, right in model["merges"]]
        whole = end_of_word_bpe(vocab, merges) if kind == "bpe" else byte_level_bpe(vocab, merges)
    if hf_tokenizer.normalizer is not None:
        whole.normalizer = hf_tokenizer.normalizer
    return whole
