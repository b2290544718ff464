"""An exported tokenizer truncates as its run did: the longer of two texts, of any lengths, one or two."""

import json
from pathlib import Path

import pytest
import transformers
from tokenizers import Tokenizer as HFTokenizer

from protoformer.models.hf.tokenizer_files import tokenizer_files
from protoformer.text.templates import BertTemplate
from protoformer.text.tokenizers import whole_word_tokenizer

WORDS = whole_word_tokenizer(["a b c d e f g h i j k l m n o p"], "here")
LETTERS = "abcdefghijklmnop"
MAX_LEN = 9


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, content in tokenizer_files(WORDS, MAX_LEN).items():
        (tmp_path / name).write_text(json.dumps(content))
    return tmp_path


@pytest.mark.parametrize("first", [1, 2, 3, 5, 8, 15])
@pytest.mark.parametrize("second", [None, 1, 2, 3, 4, 7, 15])
def test_pairs_of_any_lengths(folder: Path, first: int, second: int | None) -> None:
    template, tokenizer = BertTemplate(WORDS), transformers.AutoTokenizer.from_pretrained(folder)
    texts = [" ".join(LETTERS[:length]) for length in (first, second) if length is not None]
    encoded = [[ids] for ids in WORDS.encode(texts)]
    expected = template.encode_texts(encoded[0], encoded[1] if second else None, MAX_LEN).ids.tolist()
    assert tokenizer(*texts, truncation=True)["input_ids"] == expected
    alone = HFTokenizer.from_file(str(folder / "tokenizer.json"))  # the library itself needs no asking
    assert alone.encode(*texts).ids == expected
