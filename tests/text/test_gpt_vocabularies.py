# ruff: noqa: RUF001
"""GPT's and GPT-2's vocabularies: ids as `transformers` gives them on text of every kind, and the paper code's clean-up."""

import json
import random
from pathlib import Path

import pytest
import transformers

from protoformer.assembly.initial_weights import InitialWeights
from protoformer.assembly.tokenizer import build_tokenizer
from protoformer.config.compose import compose
from protoformer.errors import ConfigurationError
from protoformer.text.normalization import gpt_normalizer
from protoformer.text.tokenizer_files import read_tokenizer
from protoformer.text.tokenizers import Tokenizer, whole_word_tokenizer, with_normalization
from protoformer.text.vocabulary_training import train

TEXTS = [
    "the dog's house isn't near; the cat's naïve.\n\n  Where is the dog?",
    "Über 12 mice — no “cheese”! 3,141\tÉcole",
] * 3
ALPHABETS = (
    "abcdefgh ABC  012'.,!?-\n\t",
    "äöüßéèñçøåÆŒıİ ̈́'",
    "中文字かなカナ한글ไทยहिन्दी العربية עברית",
    "🙂👍🏽👨‍👩‍👧🇩🇪☃️♥ ",
    " \u00a0\u2003\u3000\u200b\u2028\u0085\ufeff\r\n\t ",
    "\x00\x01\x07\x1b\x7f\x9f\ufffd\ue000 a",
    "“”‘’—–…´`\"'()[]{}<>@#$%^&*_+=|\\/~;:",
)


def fuzzed(count: int, seed: int = 0) -> list[str]:
    """Strings of one alphabet, or of several, from nothing to some hundred letters, with runs of the same."""
    draw = random.Random(seed)
    texts = ["", " ", "\n", "  a", "a  "]
    while len(texts) < count:
        letters = "".join(draw.sample(ALPHABETS, draw.choice((1, 1, 2, 3))))
        size = int(draw.expovariate(1 / 25))
        texts.append("".join(draw.choice(letters) * draw.choice((1, 1, 1, 1, 2, 5)) for _ in range(size)))
    return texts


def files(tokenizer: Tokenizer, folder: Path) -> Path:
    """The two files that published vocabularies come as."""
    model = json.loads(tokenizer.hf_tokenizer.to_str())["model"]
    folder.mkdir(exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]), encoding="utf-8")
    merges = ["#version: 0.2", *(" ".join(pair) for pair in model["merges"])]
    (folder / "merges.txt").write_text("\n".join(merges) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def pairs() -> Tokenizer:
    return train(lambda: TEXTS, "bpe", 120)


def test_bytes_are_split_as_gpt2s(tmp_path: Path) -> None:
    folder = files(train(lambda: TEXTS, "bytelevel", 310), tmp_path / "bytes")
    ours, theirs = read_tokenizer(folder), transformers.GPT2Tokenizer.from_pretrained(folder)
    texts = fuzzed(3000)
    assert ours.encode(texts) == theirs(texts)["input_ids"]
    assert [ours.decode(ids) for ids in ours.encode(texts)] == texts


def test_words_are_split_as_gpts_of_transformers(tmp_path: Path, pairs: Tokenizer) -> None:
    folder = files(pairs, tmp_path / "pairs")
    ours, theirs = read_tokenizer(folder), transformers.OpenAIGPTTokenizer.from_pretrained(folder)
    texts = fuzzed(3000, seed=1)
    assert ours.encode(texts) == theirs(texts, add_special_tokens=False)["input_ids"]
    assert with_normalization(ours, "bert").encode(texts) == ours.encode(texts)


GOLDEN = [
    # the paper code's own replacements, and spaces around runs of marks
    ("Don't stop — can't you see?", "do n't stop - ca n't you see ?"),
    ("wait…no", "wait ... no"),
    ("wow!!! yes---no ~~ \\\\ //", "wow ! ! ! yes --- no ~~ \\\\ //"),
    ("(a,b) [c] {d} e_f", "( a , b ) [ c ] { d } e _ f"),
    ("one\n\n  two\r\nthree ", "one \n two \n three"),
    ("  much\t\tspace\u00a0here ", "much space here"),
    # ftfy's repairs
    ("“Curly” ‘quotes’ aren’t", "\" curly \" ' quotes ' are n't"),
    ("a ﬁne oﬃce\u2028zero\ufeff\x07width", "a fine office \n zerowidth"),
    ("cafe\u0301 NAÏVE", "café naïve"),
    # spaCy's English words
    ("Mr. Smith's 5km run (Jan. 3) cost $5.50, i.e. 10%.", "mr. smith 's 5 km run ( jan. 3 ) cost $ 5.50 , i.e. 10 % ."),
    ("The U.S. and NATO. End.Start at 10am, 7a.m.", "the u.s. and nato . end . start at 10 am , 7 a.m."),
    ("I'm, he'd, they'll, we've, you're, shouldn't've", "i 'm , he 'd , they 'll , we 've , you 're , should n't 've"),
    ("dont DON'T cannot gonna y'all Its were well", "do nt don't can not gon na y' all its were well"),
    ("rock'n'roll dogs' 'hello' 'em goin' o'clock", "rock'n'roll dogs ' ' hello ' 'em goin' o'clock"),
    ("wait... no..yes ...start", "wait ... no .. yes ... start"),
    ("C# #1 AT&T <b> a:b 12:30 :D", "c # # 1 at&t < b > a : b 12:30 :d"),
    ("snow☃man 5€ 3.14 www.example.com Ph.D.", "snow ☃ man 5 € 3.14 www.example.com ph.d."),
    ("\n", ""),
]  # fmt: skip


@pytest.mark.parametrize(("text", "tokenizer"), GOLDEN)
def test_the_papers_clean_up(text: str, tokenizer: str) -> None:
    actual = gpt_normalizer().normalize_str(text)
    assert [word for word in actual.split(" ") if word] == [word for word in tokenizer.split(" ") if word]


def test_a_clean_up_is_part_of_the_tokenizer(tmp_path: Path, pairs: Tokenizer) -> None:
    paper = with_normalization(pairs, "original")
    assert paper.digest != pairs.digest
    assert with_normalization(paper, "bert").digest == pairs.digest
    paper.save(tmp_path)
    assert read_tokenizer(tmp_path).digest == paper.digest
    text = "“Don’t”, he’d.\r\nThe  dogs"
    ids, places = read_tokenizer(tmp_path).encode_with_offsets([text])
    pieces = [text[begin:end] for begin, end in places[0]]
    assert "".join(pieces) == text.replace(" ", "").replace("\r", "")  # every place is one of the text as it was given
    assert paper.hf_tokenizer.id_to_token(ids[0][-1]).removesuffix("</w>") == "s"


def test_the_config_chooses_the_clean_up(tmp_path: Path, pairs: Tokenizer) -> None:
    pairs.save(tmp_path)
    tokenizer = ["model=gpt_tiny", "task=pretrain/clm", "source=sample", f"model.tokenizer={tmp_path}"]
    actual = {name: build_tokenizer(compose([*tokenizer, *more]), InitialWeights("scratch"), None) for name, more in (
        ("null", []), ("bert", ["model.normalization=bert"]), ("original", ["model.normalization=original"]),
    )}  # fmt: skip
    assert actual["null"].digest == actual["bert"].digest == pairs.digest
    assert actual["original"].digest == with_normalization(pairs, "original").digest
    with pytest.raises(ConfigurationError, match=r"model\.normalization.*bert, original"):
        compose([*tokenizer, "model.normalization=spacy"])
    with pytest.raises(ConfigurationError, match="do not end in </w>"):
        with_normalization(whole_word_tokenizer(TEXTS, "here"), "original")


def test_a_whole_tokenizer_under_the_name_of_a_vocabulary(tmp_path: Path) -> None:
    tokenizer = whole_word_tokenizer(["a cat sat"], "here")
    tokenizer.hf_tokenizer.save(str(tmp_path / "vocab.json"))
    assert read_tokenizer(tmp_path / "vocab.json").encode(["a cat"]) == tokenizer.encode(["a cat"])
