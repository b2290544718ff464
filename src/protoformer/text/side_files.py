"""What the files beside a published vocabulary say of it, as `transformers` (5) heeds it.

`tokenizer_config.json` names a class: BERT's, GPT-2's and GPT's build normalizer and splitter from its settings
(`do_lower_case`, `strip_accents`, `tokenize_chinese_chars`, `add_prefix_space`) whatever `tokenizer.json` says, as do models of
these forms without a named class; any other leaves that file as it is. It, `special_tokens_map.json` and `added_tokens.json`
name special tokens and tokens beyond the vocabulary.

Differs: a token that has a role (`mask_token`, ...) and is not in the vocabulary is added to it only where tokens without a
role are.
"""

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as HFTokenizer

from protoformer.errors import UserError
from protoformer.json_files import JsonObject, Values, read_object, shown

log = logging.getLogger(__name__)

CONFIG, SPECIAL_TOKENS, ADDED_TOKENS = "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"
ROLES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
WORDPIECE_CLASSES = ("BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer")
BY_FORM = ""  # in place of a class: that of the vocabulary's form
UNLIMITED = 10**9  # a model_max_length from here on means none


@dataclass(frozen=True)
class SideFiles:
    """The settings of a vocabulary's folder.

    `settings` are those of `tokenizer_config.json` with the special tokens of `special_tokens_map.json`; `tokenizer_class`,
    without "Fast", is `BY_FORM` in a model's folder that names none, and None in any other.
    """

    settings: JsonObject
    tokenizer_class: str | None = None
    added_tokens: Mapping[int, AddedToken] = field(default_factory=dict)

    @property
    def values(self) -> Values:
        return Values(self.settings, error=UserError)

    @property
    def special_names(self) -> dict[str, str]:
        """Role -> token, of those that a file names."""
        return {role: content(self.settings, role) for role in ROLES if self.settings.get(role) is not None}

    @property
    def model_max_length(self) -> int | None:
        """Tokens of the longest text that the model reads; None where no file says so."""
        longest = self.settings.get("model_max_length")
        if isinstance(longest, int | float) and longest >= UNLIMITED:
            return None
        return None if longest is None else self.values.whole("model_max_length")

    @property
    def truncation_side(self) -> str:
        """Where a text that is too long loses tokens: "right" or "left"."""
        return self.values.choice("truncation_side", {"right": "right", "left": "left"}, "right")


def read_side_files(folder: Path) -> SideFiles | None:
    """The settings of a folder; None where no file beside the vocabulary says anything.

    Raises UserError, which names file and key, for a value of the wrong type.
    """
    present = [name for name in (CONFIG, SPECIAL_TOKENS, ADDED_TOKENS, "config.json") if (folder / name).is_file()]
    if not present:
        return None
    path = folder / CONFIG
    settings = read_object(path, UserError) if CONFIG in present else JsonObject({}, str(folder / present[0]))
    added: dict[int, AddedToken] = {}
    if settings.get("added_tokens_decoder") is not None:
        for key, token in Values(settings, error=UserError).mapping("added_tokens_decoder").items():
            added[_index(key, settings.origin)] = _added_token(token, settings.origin)
    else:  # older files
        if SPECIAL_TOKENS in present:
            special = read_object(folder / SPECIAL_TOKENS, UserError)
            settings = JsonObject({**settings, **special}, special.origin if special else settings.origin)
        if ADDED_TOKENS in present:
            words = read_object(folder / ADDED_TOKENS, UserError)
            added = {_index(number, words.origin): AddedToken(word, normalized=True) for word, number in words.items()}
    side_files = SideFiles(settings, _class_name(folder, settings), added)
    _ = side_files.special_names, side_files.model_max_length, side_files.truncation_side, list(extra_tokens(settings))
    return side_files


def apply_side_files(hf_tokenizer: HFTokenizer, side_files: SideFiles) -> HFTokenizer:
    """The vocabulary as the files want it. `hf_tokenizer` is changed in place."""
    model, name = hf_tokenizer.model, side_files.tokenizer_class
    if isinstance(model, models.WordPiece) and name in (*WORDPIECE_CLASSES, BY_FORM):
        _as_bert(hf_tokenizer, side_files)
    elif isinstance(model, models.BPE) and name in ("OpenAIGPTTokenizer", BY_FORM) and model.end_of_word_suffix:
        _set_parts(hf_tokenizer, normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer())
    elif isinstance(model, models.BPE) and name in ("GPT2Tokenizer", BY_FORM):
        byte_level = pre_tokenizers.ByteLevel(add_prefix_space=side_files.values.flag("add_prefix_space", False))
        _set_parts(hf_tokenizer, None, byte_level, ("add_prefix_space",))
    _add_tokens(hf_tokenizer, side_files)
    return hf_tokenizer


def extra_tokens(settings: JsonObject) -> Iterator[AddedToken]:
    """Special tokens without a role."""
    for key in ("extra_special_tokens", "additional_special_tokens"):
        tokens = settings.get(key) or []
        if isinstance(tokens, Mapping):
            tokens = list(tokens.values())
        if not isinstance(tokens, list):
            raise Values(settings, error=UserError).wrong(key, "a list of tokens")
        for token in tokens:
            yield _added_token({**token, "special": True} if isinstance(token, Mapping) else token, settings.origin)


def content(settings: JsonObject, role: str) -> str:
    """The token that has a role: a text, or an object with the text under `content`."""
    token = settings[role]
    text = token.get("content") if isinstance(token, Mapping) else token
    if not isinstance(text, str) or not text:
        raise Values(settings, error=UserError).wrong(role, "a token")
    return text


def _as_bert(hf_tokenizer: HFTokenizer, side_files: SideFiles) -> None:
    values, unknown = side_files.values, side_files.special_names.get("unk_token", "[UNK]")
    normalizer = normalizers.BertNormalizer(
        lowercase=values.flag("do_lower_case", True),
        strip_accents=values.flag("strip_accents", False) if values.get("strip_accents") is not None else None,
        handle_chinese_chars=values.flag("tokenize_chinese_chars", True),
    )
    _set_parts(hf_tokenizer, normalizer, pre_tokenizers.BertPreTokenizer())
    if hf_tokenizer.model.unk_token != unknown:
        vocab = hf_tokenizer.get_vocab(with_added_tokens=False)
        hf_tokenizer.model = models.WordPiece(vocab, unk_token=unknown, max_input_chars_per_word=100)


def _set_parts(
    hf_tokenizer: HFTokenizer,
    normalizer: normalizers.Normalizer | None,
    splitter: pre_tokenizers.PreTokenizer,
    compared: tuple[str, ...] = (),
) -> None:
    """Put a normalizer and a splitter in place of others; those that do the same stay, and with them the file's digest.

    Splitters are the same if type and the settings `compared` are.
    """
    now = json.loads(hf_tokenizer.to_str())
    expected = None if normalizer is None else json.loads(normalizer.__getstate__())
    if now["normalizer"] != expected:
        hf_tokenizer.normalizer = normalizer
    old, new = now["pre_tokenizer"] or {}, json.loads(splitter.__getstate__())
    if any(old.get(name) != new.get(name) for name in ("type", *compared)):
        hf_tokenizer.pre_tokenizer = splitter


def _add_tokens(hf_tokenizer: HFTokenizer, side_files: SideFiles) -> None:
    known = {token.content: token for token in hf_tokenizer.get_added_tokens_decoder().values()}
    for number, token in sorted(side_files.added_tokens.items()):
        if token.content not in known or known[token.content].special != token.special:
            (hf_tokenizer.add_special_tokens if token.special else hf_tokenizer.add_tokens)([token])
        if (index := hf_tokenizer.token_to_id(token.content)) != number:
            log.warning("%s: token %r is number %s, not %d", side_files.settings.origin, token.content, index, number)
    special = {token.content for token in hf_tokenizer.get_added_tokens_decoder().values() if token.special}
    for name in side_files.special_names.values():
        if name not in special and hf_tokenizer.token_to_id(name) is not None:
            hf_tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False)])
    extra = [token for token in extra_tokens(side_files.settings) if token.content not in special]
    if any(
        hf_tokenizer.token_to_id(token.content) is None for token in extra
    ):  # they are numbered after those with a role
        hf_tokenizer.add_special_tokens(list(side_files.special_names.values()))
    hf_tokenizer.add_special_tokens(extra)


def _class_name(folder: Path, settings: JsonObject) -> str | None:
    named, path = Values(settings, error=UserError).text("tokenizer_class"), folder / "config.json"
    if named is None and path.is_file():
        named = Values(read_object(path, UserError), error=UserError).text("tokenizer_class", BY_FORM)
    return named and named.removesuffix("Fast")


def _index(number: Any, origin: str) -> int:
    try:
        index = int(number)
    except (TypeError, ValueError):
        index = -1
    if isinstance(number, bool) or index < 0:
        raise UserError(f"{origin}: {shown(number)}; expected the number of a token")
    return index


def _added_token(token: object, origin: str) -> AddedToken:
    if isinstance(token, str) and token:
        return AddedToken(token, special=True, normalized=False)
    if not isinstance(token, Mapping) or not isinstance(token.get("content"), str) or not token["content"]:
        raise UserError(f"{origin}: {shown(token)}; expected a token, or an object with its text under content")
    flags = {
        name: token[name] for name in ("single_word", "lstrip", "rstrip", "normalized", "special") if name in token
    }
    if wrong := [name for name, value in flags.items() if not isinstance(value, bool)]:
        raise UserError(
            f"{origin}: token {shown(token['content'])}: {wrong[0]}={shown(flags[wrong[0]])}; true or false"
        )
    return AddedToken(token["content"], **flags)
