"""Tokenizers from files: every form that published vocabularies come in."""

import json
from pathlib import Path

from tokenizers import Tokenizer as HFTokenizer
from tokenizers import decoders, models, normalizers, pre_tokenizers

from protoformer.errors import UserError
from protoformer.text import merges
from protoformer.text.sentencepiece import read_source_target_tokenizer
from protoformer.text.tokenizers import BERT_SPECIAL, END, Tokenizer, byte_level_bpe, end_of_word_bpe

TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json")  # in a folder, the first that is there


def read_tokenizer(path: Path) -> Tokenizer:
    """From a `tokenizer.json`, a BERT `vocab.txt`, a GPT `vocab.json` with its `merges.txt`, Marian's with its `source.spm` and
    `target.spm`, or a folder that holds them; or from a file of merges alone, as subword-nmt writes it.

    A `vocab.txt` says nothing of casing: that stands in `tokenizer_config.json` beside it (`do_lower_case`, true when unsaid).
    """
    if path.is_dir():
        files = [path / name for name in TOKENIZER_FILES if (path / name).exists()]
        if not files:
            raise UserError(f"{path}: none of {', '.join(TOKENIZER_FILES)} is there; name one by model.tokenizer=FILE")
        path = files[0]
    if not path.exists():
        raise UserError(f"{path}: no such tokenizer file")
    if path.name == "vocab.txt":
        return Tokenizer(_wordpiece(path), str(path))
    if path.name == "vocab.json":
        if path.with_name("source.spm").exists():
            return read_source_target_tokenizer(path.parent)
        return Tokenizer(_byte_pairs(path), str(path))
    if merges.is_merges(path):
        return Tokenizer(merges.read_merges(path), str(path))
    try:
        return Tokenizer(HFTokenizer.from_file(str(path)), str(path))
    except Exception as error:  # the Rust side raises nothing narrower
        raise UserError(f"{path}: not a tokenizer file ({error})") from error


def _wordpiece(path: Path) -> HFTokenizer:
    # a line ends at \n alone: splitlines, and text mode at a lone \r, would cut words that hold a Unicode line break
    lines = path.read_bytes().decode("utf-8").removesuffix("\n").split("\n")
    vocab = {word.removesuffix("\r"): number for number, word in enumerate(lines)}
    missing = [token for token in BERT_SPECIAL[:4] if token not in vocab]
    if missing:
        raise UserError(f"{path}: the vocabulary lacks {', '.join(missing)}")
    settings = path.with_name("tokenizer_config.json")
    config = json.loads(settings.read_text(encoding="utf-8")) if settings.exists() else {}
    hf_tokenizer = HFTokenizer(models.WordPiece(vocab, unk_token="[UNK]", max_input_chars_per_word=100))
    hf_tokenizer.normalizer = normalizers.BertNormalizer(
        lowercase=config.get("do_lower_case", True),
        strip_accents=config.get("strip_accents"),
        handle_chinese_chars=config.get("tokenize_chinese_chars", True),
    )
    hf_tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    hf_tokenizer.decoder = decoders.WordPiece()
    hf_tokenizer.add_special_tokens([token for token in BERT_SPECIAL if token in vocab])
    return hf_tokenizer


def _byte_pairs(path: Path) -> HFTokenizer:
    """GPT's vocabulary, whose words end in a mark (`</w>`), or GPT-2's of bytes."""
    merges_file = path.with_name("merges.txt")
    try:
        vocab = {str(token): int(number) for token, number in json.loads(path.read_text(encoding="utf-8")).items()}
        lines = merges_file.read_bytes().decode("utf-8").split("\n")
    except FileNotFoundError:
        raise UserError(f"{merges_file}: it belongs to {path.name}, and is not there") from None
    except (ValueError, AttributeError) as error:
        raise UserError(f"{path}: no vocabulary and merges ({error})") from error
    pairs = [line.removesuffix("\r").split(" ") for line in lines if line.strip() and not line.startswith("#version")]
    if wrong := next((pair for pair in pairs if len(pair) != 2), None):
        raise UserError(f"{merges_file}: {' '.join(wrong)!r} is not a pair of tokens")
    merges = [(left, right) for left, right in pairs]
    try:
        return byte_level_bpe(vocab, merges) if END not in "".join(vocab) else end_of_word_bpe(vocab, merges)
    except (
        Exception
    ) as error:  # the Rust side raises nothing narrower: a merge of tokens that are not in the vocabulary
        raise UserError(f"{merges_file}: {error}") from error
