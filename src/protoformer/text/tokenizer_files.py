"""Tokenizers from files: every form that published vocabularies come in."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from tokenizers import Tokenizer as HFTokenizer
from tokenizers import decoders, models, normalizers, pre_tokenizers

from protoformer.errors import UserError
from protoformer.json_files import Values, printable, read_object, shown
from protoformer.text import merges
from protoformer.text.sentencepiece import read_source_target_tokenizer
from protoformer.text.side_files import apply_side_files, read_side_files
from protoformer.text.tokenizers import END, USUAL_NAMES, Tokenizer, byte_level_bpe, end_of_word_bpe

log = logging.getLogger(__name__)

TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json")  # in a folder, the first that is there


def read_tokenizer(path: Path) -> Tokenizer:
    """From a `tokenizer.json`, a BERT `vocab.txt`, a GPT `vocab.json` with its `merges.txt`, Marian's with its `source.spm` and
    `target.spm`, or a folder that holds them; or from a file of merges alone, as subword-nmt writes it.

    Casing, names of special tokens and tokens beyond the vocabulary are those that the files beside it say (`side_files`).

    Raises UserError, which names the file, for one that is missing or broken.
    """
    if path.is_dir():
        files = [path / name for name in TOKENIZER_FILES if (path / name).exists()]
        if not files:
            raise UserError(f"{path}: none of {', '.join(TOKENIZER_FILES)} is there; name one by model.tokenizer=FILE")
        path = files[0]
    if not path.exists():
        raise UserError(f"{path}: no such tokenizer file")
    if path.name == "vocab.json" and path.with_name("source.spm").exists():
        return read_source_target_tokenizer(path.parent)
    if path.name not in TOKENIZER_FILES and merges.is_merges(path):
        return Tokenizer(merges.read_merges(path), str(path))
    side_files = read_side_files(path.parent) if path.name in TOKENIZER_FILES else None
    names = side_files.special_names if side_files else {}
    if path.name == "vocab.txt":
        hf_tokenizer = _wordpiece(path, names)
    elif path.name == "vocab.json":
        hf_tokenizer = _byte_pairs(path)
    else:
        hf_tokenizer = _from_json(path)
    if side_files is None:
        return Tokenizer(hf_tokenizer, str(path))
    if side_files.truncation_side == "left":
        log.warning("%s: truncation_side=left is not followed: long texts lose their end", side_files.settings.origin)
    if side_files.values.flag("split_special_tokens", False):
        log.warning(
            "%s: split_special_tokens=true is not followed: special tokens are tokens", side_files.settings.origin
        )
    if path.name == "vocab.txt":  # it can be no other class's
        side_files = replace(side_files, tokenizer_class="BertTokenizer")
    return Tokenizer(apply_side_files(hf_tokenizer, side_files), str(path), names, side_files.model_max_length)


def _from_json(path: Path) -> HFTokenizer:
    try:
        return HFTokenizer.from_file(str(path))
    except Exception as error:  # the Rust side raises nothing narrower
        raise UserError(f"{path}: not a tokenizer file ({error})") from error


def _wordpiece(path: Path, names: Mapping[str, str]) -> HFTokenizer:
    """BERT's; `names` are those of special tokens, by their role."""
    # a line ends at \n alone: splitlines, and text mode at a lone \r, would cut words that hold a Unicode line break
    vocab: dict[str, int] = {}
    for number, line in enumerate(_decoded(path).removesuffix("\n").split("\n")):
        word = line.removesuffix("\r")
        if word.strip() and word in vocab:
            raise UserError(f"{path}, line {number + 1}: {shown(word)} is there already, in line {vocab[word] + 1}")
        vocab[word] = number
    special = [names.get(role, USUAL_NAMES[role]) for role in ("pad_token", "unk_token", "cls_token", "sep_token")]
    if missing := [token for token in special if token not in vocab]:
        raise UserError(f"{path}: the vocabulary lacks {', '.join(map(printable, missing))}")
    unknown = names.get("unk_token", USUAL_NAMES["unk_token"])
    hf_tokenizer = HFTokenizer(models.WordPiece(vocab, unk_token=unknown, max_input_chars_per_word=100))
    hf_tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    hf_tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    hf_tokenizer.decoder = decoders.WordPiece()
    mask = names.get("mask_token", USUAL_NAMES["mask_token"])
    hf_tokenizer.add_special_tokens([token for token in (*special, mask) if token in vocab])
    return hf_tokenizer


def _decoded(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}, byte {error.start}: not UTF-8 ({error.reason})") from None


def _byte_pairs(path: Path) -> HFTokenizer:
    """GPT's vocabulary, whose words end in a mark (`</w>`), or GPT-2's of bytes; or a whole tokenizer under that name."""
    if isinstance(read_object(path, UserError).get("model"), dict):
        return _from_json(path)
    merges_file = path.with_name("merges.txt")
    if not merges_file.exists():
        raise UserError(f"{merges_file}: it belongs to {path.name}, and is not there")
    words = Values(read_object(path, UserError), error=UserError)
    vocab = {str(token): words.whole(token, minimum=0) for token in words.values}
    lines = _decoded(merges_file).split("\n")
    numbers = sorted(vocab.values())
    if double := next((a for a, b in pairwise(numbers) if a == b), None):
        raise UserError(f"{path}: {double} is the number of two tokens")
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
