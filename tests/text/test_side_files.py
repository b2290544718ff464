"""Files beside a vocabulary: the same tokens as `transformers`' AutoTokenizer gives for the same folder."""

import json
from pathlib import Path
from typing import Any

import pytest
import transformers
from tokenizers import Tokenizer as HFTokenizer
from tokenizers import models, normalizers, pre_tokenizers

from protoformer.errors import UserError
from protoformer.text.templates import BertTemplate, GptTemplate
from protoformer.text.tokenizer_files import read_tokenizer
from protoformer.text.tokenizers import Tokenizer
from protoformer.text.vocabulary_training import train

WORDS = [
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "paris", "Paris", "old", "is", "##s", "caf\u00e9", "cafe",
    "\u4e2d", "\u56fd", "\u4e2d\u56fd", "a", "b", "<x>", "new", "##ly", "<", "x", ">",
]  # fmt: skip
TEXTS = ["Paris is caf\u00e9 \u4e2d\u56fd [MASK] <x>newly", "<y> Paris<y>s old zzz <x>", "  OLD\u00c9 a\tb [CLS] ", ""]
ADDED = {"content": "<y>", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
BERT_FOLDERS: dict[str, dict[str, Any]] = {
    "no settings": {},
    "cased in the settings": {"tokenizer_config.json": {"do_lower_case": False}},
    "lower-cased in the settings": {"tokenizer_config.json": {"do_lower_case": True}, "cased": True},
    "unsaid, with a cased tokenizer.json": {"tokenizer_config.json": {}, "cased": True},
    "accents kept": {"tokenizer_config.json": {"strip_accents": False}},
    "accents stripped though cased": {"tokenizer_config.json": {"do_lower_case": False, "strip_accents": True}},
    "Chinese characters together": {"tokenizer_config.json": {"tokenize_chinese_chars": False}},
    "fast class": {"tokenizer_config.json": {"tokenizer_class": "BertTokenizerFast", "do_lower_case": False}},
    "DistilBERT's class": {"tokenizer_config.json": {"tokenizer_class": "DistilBertTokenizer", "do_lower_case": False}},
    "any class": {"tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast", "do_lower_case": False}},
    "class of config.json": {"config.json": {"model_type": "bert", "tokenizer_class": "BertTokenizer"}, "cased": True},
    "a token in tokenizer_config.json": {"tokenizer_config.json": {"added_tokens_decoder": {str(len(WORDS)): ADDED}}},
    "a known token made special": {"tokenizer_config.json": {"additional_special_tokens": ["<x>"]}},
    "a special token": {"tokenizer_config.json": {"additional_special_tokens": ["<y>"]}},
    "extra tokens": {"tokenizer_config.json": {"extra_special_tokens": ["<y>", "<x>"]}},
    "extra tokens by name": {"tokenizer_config.json": {"extra_special_tokens": {"pause_token": "<y>"}}},
    "old special tokens": {"special_tokens_map.json": {"additional_special_tokens": ["<y>"], "cls_token": "<x>"}},
    "old special tokens as objects": {"special_tokens_map.json": {"cls_token": {**ADDED, "content": "<x>"}}},
    "old special tokens, and settings": {
        "special_tokens_map.json": {"cls_token": "<x>"}, "tokenizer_config.json": {"do_lower_case": False},
    },
    "old added tokens": {"added_tokens.json": {"<y>": len(WORDS)}},
    "another unknown word": {"tokenizer_config.json": {"unk_token": "old", "cls_token": "<x>"}},
    "another mask beside [MASK]": {"special_tokens_map.json": {"mask_token": {**ADDED, "content": "<x>", "lstrip": True}}},
    "length": {"tokenizer_config.json": {"model_max_length": 12, "truncation_side": "left", "padding_side": "left"}},
}  # fmt: skip


def write(folder: Path, files: dict[str, Any]) -> None:
    for name, content in files.items():
        if name.endswith(".json"):
            (folder / name).write_text(json.dumps(content))


def bert_folder(folder: Path, form: str, cased: bool = False, **files: Any) -> Path:
    write(folder, {"config.json": {"model_type": "bert"}, **files})
    if form == "vocab.txt":
        (folder / form).write_text("\n".join(WORDS) + "\n", encoding="utf-8")
        return folder
    hf_tokenizer = HFTokenizer(models.WordPiece({word: n for n, word in enumerate(WORDS)}, unk_token="[UNK]"))
    hf_tokenizer.normalizer = normalizers.BertNormalizer(lowercase=not cased)
    hf_tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    hf_tokenizer.add_special_tokens(WORDS[:5])
    hf_tokenizer.save(str(folder / form))
    return folder


def same_tokens(folder: Path) -> Tokenizer:
    ours, theirs = read_tokenizer(folder), transformers.AutoTokenizer.from_pretrained(folder)
    for text in TEXTS:
        assert ours.encode([text])[0] == theirs(text, add_special_tokens=False)["input_ids"], text
    return ours


@pytest.mark.parametrize("name", BERT_FOLDERS)
@pytest.mark.parametrize("form", ["tokenizer.json", "vocab.txt"])
def test_berts_files(tmp_path: Path, name: str, form: str) -> None:
    files = dict(BERT_FOLDERS[name])
    if form == "vocab.txt" and name in ("any class",):
        pytest.skip("transformers needs a tokenizer.json for that class")
    folder = bert_folder(tmp_path, form, files.pop("cased", False), **files)
    ours, theirs = same_tokens(folder), transformers.AutoTokenizer.from_pretrained(folder)
    template = BertTemplate(ours)
    encoded = template.encode_texts(ours.encode(["is old"]), ours.encode(["a b"]), 64)
    if theirs.cls_token is not None:
        assert encoded.ids.tolist() == theirs("is old", "a b")["input_ids"]
        assert template.mask_id == theirs.mask_token_id
    longest = theirs.model_max_length
    assert ours.model_max_length == (None if longest > 10**9 else longest)


@pytest.mark.parametrize("settings", [
    None, {}, {"add_prefix_space": True}, {"add_prefix_space": False, "eos_token": "!"},
    {"tokenizer_class": "GPT2Tokenizer", "extra_special_tokens": ["<y>"]},
    {"tokenizer_class": "PreTrainedTokenizerFast", "add_prefix_space": True},
])  # fmt: skip
@pytest.mark.parametrize("form", ["tokenizer.json", "vocab.json"])
def test_gpt2s_files(tmp_path: Path, settings: dict[str, Any] | None, form: str) -> None:
    files = {"config.json": {"model_type": "gpt2"}, **({} if settings is None else {"tokenizer_config.json": settings})}
    learned = train(lambda: ["the cat sleeps in the garden", "a dog walks!"] * 3, "bytelevel", 280).hf_tokenizer
    write(tmp_path, files)
    model = json.loads(learned.to_str())["model"]
    if form == "tokenizer.json":
        learned.save(str(tmp_path / form))
    elif settings and settings.get("tokenizer_class") == "PreTrainedTokenizerFast":
        pytest.skip("transformers needs a tokenizer.json for that class")
    else:
        (tmp_path / form).write_text(json.dumps(model["vocab"]))
        (tmp_path / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(pair) for pair in model["merges"]))
    ours = same_tokens(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert ours.special_token("eos_token") == (theirs.eos_token or "<|endoftext|>")
    if settings and settings.get("eos_token"):
        assert GptTemplate(ours).end_of_text_id == theirs.eos_token_id


def test_a_side_of_truncation_that_is_not_followed_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    read_tokenizer(bert_folder(tmp_path, "vocab.txt", **{"tokenizer_config.json": {"truncation_side": "left"}}))
    assert "tokenizer_config.json: truncation_side=left is not followed: long texts lose their end" in caplog.text


def test_special_tokens_that_texts_are_said_to_split_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    read_tokenizer(bert_folder(tmp_path, "vocab.txt", **{"tokenizer_config.json": {"split_special_tokens": True}}))
    assert "split_special_tokens=true is not followed" in caplog.text


def test_a_byte_order_mark_is_no_part_of_a_vocabulary(tmp_path: Path) -> None:
    folder = bert_folder(tmp_path, "vocab.txt", **{"tokenizer_config.json": {"do_lower_case": False}})
    plain = read_tokenizer(folder).encode(TEXTS)
    for name in ("vocab.txt", "tokenizer_config.json", "config.json"):
        (folder / name).write_bytes(b"\xef\xbb\xbf" + (folder / name).read_bytes())
    assert read_tokenizer(folder).encode(TEXTS) == plain


def test_names_of_special_tokens_go_with_a_run(tmp_path: Path) -> None:
    folder = bert_folder(
        tmp_path, "vocab.txt", **{"tokenizer_config.json": {"cls_token": "<x>", "do_lower_case": False}}
    )
    tokenizer = read_tokenizer(folder)
    tokenizer.save(tmp_path / "run")
    again = read_tokenizer(tmp_path / "run")
    assert (again.digest, again.special_names) == (tokenizer.digest, {"cls_token": "<x>"})
    assert again.encode(TEXTS) == tokenizer.encode(TEXTS)
    assert BertTemplate(again).bos_id == WORDS.index("<x>")


@pytest.mark.parametrize(("name", "content", "says"), [
    ("tokenizer_config.json", "{", "tokenizer_config.json: not valid JSON"),
    ("tokenizer_config.json", "[1]", r"tokenizer_config.json: \[1\]; expected an object"),
    ("tokenizer_config.json", '{"do_lower_case": "false"}', "do_lower_case='false'; expected true or false"),
    ("tokenizer_config.json", '{"strip_accents": 1}', "strip_accents=1; expected true or false"),
    ("tokenizer_config.json", '{"cls_token": 3}', "cls_token=3; expected a token"),
    ("tokenizer_config.json", '{"cls_token": "nowhere"}', "lacks .*nowhere"),
    ("tokenizer_config.json", '{"model_max_length": "long"}', "model_max_length='long'; expected a whole number"),
    ("tokenizer_config.json", '{"truncation_side": "up"}', "truncation_side 'up'; supported: right, left"),
    ("tokenizer_config.json", '{"added_tokens_decoder": {"x": "<y>"}}', "'x'; expected the number of a token"),
    ("tokenizer_config.json", '{"added_tokens_decoder": {"5": {}}}', "expected a token, or an object"),
    ("tokenizer_config.json", '{"tokenizer_class": 4}', "tokenizer_class=4; expected a text"),
    ("special_tokens_map.json", "", "special_tokens_map.json: not valid JSON"),
    ("added_tokens.json", '{"<y>": null}', "added_tokens.json: None; expected the number of a token"),
    ("vocab.txt", "", "vocab.txt: the vocabulary lacks"),
    ("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\na\nb\na\n", "vocab.txt, line 7: 'a' is there already, in line 5"),
])  # fmt: skip
def test_broken_files_are_one_line(tmp_path: Path, name: str, content: str, says: str) -> None:
    bert_folder(tmp_path, "vocab.txt")
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=says) as refusal:
        BertTemplate(read_tokenizer(tmp_path))
    assert "\n" not in str(refusal.value)
    assert str(tmp_path) in str(refusal.value)


def test_half_a_surrogate_pair_is_read_as_the_replacement_character(tmp_path: Path) -> None:
    tokenizer = read_tokenizer(bert_folder(tmp_path, "vocab.txt"))
    assert tokenizer.encode(["a \ud83d b"]) == tokenizer.encode(["a \ufffd b"])
    assert tokenizer.encode(["\ud83d\ude00"]) == tokenizer.encode(["\U0001f600"])
    ids, offsets = tokenizer.encode_with_offsets(["\udce9 a"])
    assert offsets[0][-1] == (2, 3)
    assert len(ids[0]) == len(offsets[0])
