"""Marian's two SentencePiece models under one numbering, against `transformers`' own tokenizer of them."""

import json
import warnings
from pathlib import Path

import pytest
from transformers import MarianTokenizer

from protoformer.errors import UserError
from protoformer.text.sentencepiece import FILES, SourceTargetTokenizer
from protoformer.text.tokenizer_files import read_tokenizer
from protoformer.text.tokenizers import Tokenizer

from .marian import learnt, other, sentences, write


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("marian"))


HARD = [
    "", " ", "the  cat\t sleeps ", "\u3000\uff46\uff55\uff4c\uff4c", "nai\u0308ve cafe\u0301", "ﬁne ½ ①", "the ß house", "ß",
    "unknown: 猫 x", "UPPER Case", "a\nb", "under_over", "▁the", ">>de<< the cat", "the cat\u00a0sleeps", "zzz qqq xyz",
]  # fmt: skip


def test_both_sides_are_cut_as_marians_own_tokenizer_does(folder: Path) -> None:
    ours = read_tokenizer(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = MarianTokenizer.from_pretrained(str(folder))
    assert isinstance(ours, SourceTargetTokenizer)
    assert ours.vocab_size == len(theirs)
    texts = [*sentences(2), *HARD]
    for text, ids in zip(texts, ours.encode(texts), strict=True):
        assert ids == theirs(text)["input_ids"][:-1], text
        assert ids or not text.strip()
    texts = other(texts)
    for text, ids in zip(texts, ours.encode_targets(texts), strict=True):
        assert ids == theirs(text_target=text)["input_ids"][:-1], text
        words = theirs.convert_ids_to_tokens(ids)
        if "<unk>" not in words:  # which their library writes as a question mark
            assert ours.decode(ids) == theirs.spm_target.decode_pieces(words).strip(), text


def test_sides_differ_and_a_saved_folder_is_the_same(folder: Path, tmp_path: Path) -> None:
    ours = read_tokenizer(folder)
    assert ours.encode(["the bridge"]) != ours.encode_targets(["the bridge"])
    ours.save(tmp_path / "saved")
    assert sorted(path.name for path in (tmp_path / "saved").iterdir()) == sorted(FILES)
    again = read_tokenizer(tmp_path / "saved")
    assert again.digest == ours.digest
    assert again.encode(sentences(3)) == ours.encode(sentences(3))
    assert again.encode_targets(sentences(3)) == ours.encode_targets(sentences(3))
    assert again.count_differing_ids(ours) == 0


def test_of_other_vocabularies_both_sides_are_one(folder: Path) -> None:
    one = Tokenizer(read_tokenizer(folder).hf_tokenizer, "one")
    assert one.encode_targets(["the cat"]) == one.encode(["the cat"])


def test_files_that_are_not_marians_are_refused(tmp_path: Path) -> None:
    write(tmp_path)
    numbers = json.loads((tmp_path / "vocab.json").read_text())

    def refused(name: str, content: bytes | None, message: str) -> None:
        before = (tmp_path / name).read_bytes()
        (tmp_path / name).unlink() if content is None else (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=message):
            read_tokenizer(tmp_path)
        (tmp_path / name).write_bytes(before)

    refused("target.spm", None, r"target\.spm: it belongs to")
    refused("source.spm", b"\x0a\xff\xff", r"source\.spm: not a SentencePiece model")
    refused("source.spm", b"", "it holds no pieces")
    refused("source.spm", learnt(sentences(1), 100, model_type="bpe"), "pairs, words or characters: not read here")
    refused("source.spm", learnt(sentences(1), 400, byte_fallback=True), "bytes for unknown characters")
    refused("vocab.json", b"[]", "expected an object")
    refused("vocab.json", json.dumps({k: v for k, v in numbers.items() if k != "<unk>"}).encode(), "lacks .* <unk>")
    refused("vocab.json", json.dumps({**numbers, "x": 7}).encode(), "each once")
    assert read_tokenizer(tmp_path).id("<pad>") == len(numbers) - 1
