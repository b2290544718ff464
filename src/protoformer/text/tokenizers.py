"""Tokenizers of the `tokenizers` library, read from any of the forms that published weights come with."""

import functools
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import overload

import numpy as np
from jaxtyping import Bool
from numpy import ndarray
from tokenizers import Tokenizer as HFTokenizer
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from protoformer.atomic import write_text
from protoformer.errors import ConfigurationError, UserError
from protoformer.json_files import printable
from protoformer.text.normalization import Normalization, gpt_normalizer

END_OF_TEXT = "<|endoftext|>"  # GPT-2's only special token
UNKNOWN_WORD, END = "<unk>", "</w>"  # GPT's
BERT_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
USUAL_NAMES = {  # of special tokens, by their role
    **dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), BERT_SPECIAL, strict=True)),
    "eos_token": END_OF_TEXT,
}


def valid_unicode(text: str) -> str:
    """The text with U+FFFD in place of each half of a surrogate pair, which is no character."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


class Tokenizer:
    """Text -> ids, without special tokens, which the input template adds. `origin` names it in messages.

    `special_names` are special tokens with other than the usual names, by their role ("cls_token"). `model_max_length` is what
    the vocabulary's folder says (None: nothing).
    """

    def __init__(
        self,
        hf_tokenizer: HFTokenizer,
        origin: str,
        special_names: Mapping[str, str] | None = None,
        model_max_length: int | None = None,
    ) -> None:
        hf_tokenizer.no_truncation()
        hf_tokenizer.no_padding()
        self.hf_tokenizer, self.origin, self.model_max_length = hf_tokenizer, origin, model_max_length
        names = special_names or {}
        self.special_names = {role: name for role, name in sorted(names.items()) if USUAL_NAMES.get(role) != name}
        if not hf_tokenizer.get_vocab_size(with_added_tokens=True):
            raise UserError(f"{origin}: the vocabulary is empty")
        content = hf_tokenizer.to_str() + (json.dumps(self.special_names) if self.special_names else "")
        self.digest = hashlib.sha256(content.encode()).hexdigest()[:16]

    @property
    def vocab_size(self) -> int:
        """One more than the largest id."""
        return max(self.hf_tokenizer.get_vocab(with_added_tokens=True).values()) + 1

    def id(self, token: str) -> int:
        """The id of a special token. Raises UserError when the vocabulary lacks it."""
        number = self.hf_tokenizer.token_to_id(token)
        if number is None:
            raise UserError(f"{self.origin}: the vocabulary lacks the special token {printable(token)}")
        return number

    def special_token(self, role: str) -> str:
        """The special token of a role, such as "cls_token", in or out of the vocabulary."""
        return self.special_names.get(role, USUAL_NAMES.get(role, role))

    def special_tokens(self) -> set[str]:
        """Special tokens of the vocabulary, which text is never encoded as."""
        return {token.content for token in self.hf_tokenizer.get_added_tokens_decoder().values() if token.special}

    def ids_without_token(self, rows: int) -> set[int]:
        """Of `rows` embeddings those that stand for no token: vocabularies are padded, and may have gaps."""
        return set(range(rows)) - set(self.hf_tokenizer.get_vocab(with_added_tokens=True).values())

    def count_differing_ids(self, other: "Tokenizer") -> int:
        """How many tokens of this vocabulary have another id, or none, in the other one."""
        theirs = other.hf_tokenizer.get_vocab(with_added_tokens=True)
        return sum(
            theirs.get(token) != number for token, number in self.hf_tokenizer.get_vocab(with_added_tokens=True).items()
        )

    def is_continuation(self) -> Bool[ndarray, "vocab"] | None:
        """For each id whether the token continues the word before it; None where the vocabulary does not mark this.

        WordPiece marks such tokens (`##`), byte-level pair encoding marks the others (a leading space, written Ġ).
        """
        model = json.loads(self.hf_tokenizer.to_str())
        prefix = model["model"].get("continuing_subword_prefix") if model["model"]["type"] == "WordPiece" else None
        byte_level = '"ByteLevel"' in json.dumps(model["pre_tokenizer"])
        if not prefix and not byte_level:
            return None
        special = {token["content"] for token in model["added_tokens"]}
        continues_word = np.zeros(self.vocab_size, dtype=bool)
        for token, number in self.hf_tokenizer.get_vocab(with_added_tokens=True).items():
            if token not in special:
                continues_word[number] = token.startswith(prefix) if prefix else not token.startswith("Ġ")
        return continues_word

    @overload
    def encode(self, texts: str) -> list[int]: ...

    @overload
    def encode(self, texts: Sequence[str]) -> list[list[int]]: ...

    def encode(self, texts: str | Sequence[str]) -> list[int] | list[list[int]]:
        """Ids of each text, in one parallel call; of one text (a str) its ids."""
        if isinstance(texts, str):
            return self.encode([texts])[0]
        texts = [valid_unicode(text) for text in texts]
        return [encoding.ids for encoding in self.hf_tokenizer.encode_batch_fast(texts, add_special_tokens=False)]

    def encode_targets(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of target texts, where a tokenizer segments them otherwise than sources."""
        return self.encode(texts)

    def encode_with_offsets(self, texts: Sequence[str]) -> tuple[list[list[int]], list[list[tuple[int, int]]]]:
        """Ids of each text, and each token's start and end in the text, in characters."""
        encodings = self.hf_tokenizer.encode_batch([valid_unicode(text) for text in texts], add_special_tokens=False)
        return [encoding.ids for encoding in encodings], [encoding.offsets for encoding in encodings]

    def decode(self, ids: Sequence[int]) -> str:
        return self.hf_tokenizer.decode(list(ids))

    def save(self, folder: Path) -> None:
        """Write `tokenizer.json`, which `read_tokenizer` and `transformers` open, and unusual names of special tokens."""
        folder.mkdir(parents=True, exist_ok=True)
        self.hf_tokenizer.save(str(folder / "tokenizer.json"))
        if self.special_names:
            write_text(folder / "special_tokens_map.json", json.dumps(self.special_names))


def byte_level_bpe(vocab: Mapping[str, int], merges: Sequence[tuple[str, str]]) -> HFTokenizer:
    """GPT-2's BPE over bytes (Radford et al. 2019, section 2.2); words keep the space before them."""
    hf_tokenizer = HFTokenizer(models.BPE(dict(vocab), list(merges)))
    hf_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    hf_tokenizer.decoder = decoders.ByteLevel()
    hf_tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    hf_tokenizer.add_special_tokens([token for token in (END_OF_TEXT,) if token in vocab])
    return hf_tokenizer


def end_of_word_bpe(vocab: Mapping[str, int], merges: Sequence[tuple[str, str]], *, cased: bool = False) -> HFTokenizer:
    """GPT's BPE over characters (Radford et al. 2018, section 4.1); words are split as BERT's are and end in `</w>`."""
    hf_tokenizer = HFTokenizer(models.BPE(dict(vocab), list(merges), unk_token=UNKNOWN_WORD, end_of_word_suffix=END))
    hf_tokenizer.normalizer = normalizers.BertNormalizer(lowercase=not cased)
    hf_tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    hf_tokenizer.decoder = decoders.BPEDecoder(suffix=END)
    hf_tokenizer.add_special_tokens([token for token in (UNKNOWN_WORD,) if token in vocab])
    return hf_tokenizer


def with_normalization(tokenizer: Tokenizer, normalization: Normalization) -> Tokenizer:
    """The same vocabulary with texts normalized and split as by GPT's own code (`original`) or as BERT's are (`bert`).

    Raises ConfigurationError for a vocabulary that is not of GPT's form: others have one normalization.
    """
    hf_tokenizer = HFTokenizer.from_str(tokenizer.hf_tokenizer.to_str())
    if not isinstance(hf_tokenizer.model, models.BPE) or hf_tokenizer.model.end_of_word_suffix != END:
        raise ConfigurationError(
            f"model.normalization={normalization}: the words of {tokenizer.origin} do not end in {END}, as those of GPT's "
            "vocabulary do; leave model.normalization out"
        )
    if normalization == "original":
        hf_tokenizer.normalizer = gpt_normalizer()
        hf_tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "removed")
    else:
        hf_tokenizer.normalizer = normalizers.BertNormalizer()
        hf_tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return Tokenizer(hf_tokenizer, tokenizer.origin, tokenizer.special_names, tokenizer.model_max_length)


@functools.lru_cache(maxsize=4)  # each run from scratch on the sample learns the words of the same texts
def _whole_words(texts: tuple[str, ...]) -> Mapping[str, int]:
    """The ids of special tokens, of characters, and of words by their frequency."""
    normalizer, splitter = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    counts = Counter(word for text in texts for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text)))
    alphabet = sorted({character for word in counts for character in word})
    words = sorted(counts, key=lambda word: (-counts[word], word))
    ordered = dict.fromkeys([*BERT_SPECIAL, *alphabet, *(f"##{character}" for character in alphabet), *words])
    return {word: number for number, word in enumerate(ordered)}


def whole_word_tokenizer(texts: Iterable[str], origin: str) -> Tokenizer:
    """A lower-casing WordPiece vocabulary of all the words of `texts`, and their characters for words not seen.

    For small closed corpora. Unlike a trained vocabulary (whose ties the library breaks differently from run to run) it is
    the same on every machine, which the name of a run and the caches rely on.
    """
    hf_tokenizer = HFTokenizer(models.WordPiece(dict(_whole_words(tuple(texts))), unk_token="[UNK]"))
    hf_tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    hf_tokenizer.pre_tokenizer, hf_tokenizer.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece()
    hf_tokenizer.add_special_tokens(list(BERT_SPECIAL))
    return Tokenizer(hf_tokenizer, origin)
