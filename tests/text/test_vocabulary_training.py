"""Vocabularies learnt from text: the same every time, in the layout of the published ones, from files of three kinds."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from protoformer.commands import tokenizer as command
from protoformer.errors import UserError
from protoformer.text.tokenizer_files import read_tokenizer
from protoformer.text.tokenizers import BERT_SPECIAL
from protoformer.text.vocabulary_training import PIECE, _character_counts, _pieces, coverage, train

KINDS = ("wordpiece", "bpe", "bytelevel")
SYLLABLES = ["ka", "to", "mi", "re", "sun", "el", "or", "th", "is", "qu", "en", "zo"]
WORDS = [a + b + c for a in SYLLABLES for b in SYLLABLES for c in ("", "s", "ing")]
TEXTS = [" ".join(WORDS[(i * 7 + j * 31) % len(WORDS)] for j in range(12)) + ". Café!" for i in range(300)]
SIZE = {"wordpiece": 200, "bpe": 200, "bytelevel": 400}


def texts() -> list[str]:
    return TEXTS


TRAIN_EACH_KIND = f"""
import sys
from protoformer.cli import main
for kind, size in {SIZE}.items():
    code = main(["tokenizer", "train", *sys.argv[2:], "--kind", kind, "--size", str(size), "--out", sys.argv[1] + kind])
    assert code == 0
"""


def test_the_same_texts_give_the_same_file_in_any_process_order_and_number_of_threads(tmp_path: Path) -> None:
    """The library alone gives another file with each process (its hash tables are seeded anew)."""
    (tmp_path / "a.txt").write_text("\n".join(TEXTS[:100]))
    (tmp_path / "b.txt").write_text("\n".join(TEXTS[100:]))
    (tmp_path / "c.txt").write_text("\n".join(reversed(TEXTS)))
    for number, names in enumerate([["[ab].txt", "b.txt"], ["c.txt"]]):
        completed = subprocess.run(
            [sys.executable, "-c", TRAIN_EACH_KIND, f"{number}.", *names],
            cwd=tmp_path,
            env={**os.environ, "RAYON_NUM_THREADS": str(1 + number)},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert completed.returncode == 0, completed.stderr
        for kind in KINDS:
            assert f"{number}.{kind}: {SIZE[kind]} tokens; the first 300 texts hold 4,500 words, " in completed.stdout
        assert completed.stdout.count("0.00% of tokens unknown") == len(KINDS)
        assert completed.stderr == ""  # no bars where nobody watches
    for kind in KINDS:
        assert len({(tmp_path / f"{number}.{kind}").read_bytes() for number in range(2)}) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_the_file_is_what_read_tokenizer_opens(kind, tmp_path: Path) -> None:
    made = train(texts, kind, SIZE[kind])
    made.save(tmp_path)
    read = read_tokenizer(tmp_path / "tokenizer.json")
    assert read.digest == made.digest
    assert read.vocab_size == SIZE[kind]
    assert sorted(read.hf_tokenizer.get_vocab().values()) == list(range(SIZE[kind]))
    ids = read.encode(["katomi sunrethings café!"])[0]
    expected = {"wordpiece": "katomi sunrethings cafe!", "bpe": "katomi sunrethings cafe !"}
    assert read.decode(ids) == expected.get(kind, "katomi sunrethings café!")
    assert len(ids) < 24  # words were learnt, not letters alone


def test_wordpiece_is_laid_out_as_berts() -> None:
    made = train(texts, "wordpiece", 200)
    vocab = [made.hf_tokenizer.id_to_token(number) for number in range(200)]
    assert tuple(vocab[:5]) == BERT_SPECIAL
    letters = sorted(set("".join(TEXTS).lower().replace("é", "e")) - {" "})
    assert vocab[5 : 5 + len(letters)] == letters
    assert vocab[5 + len(letters) : 5 + 2 * len(letters)] == [f"##{letter}" for letter in letters]
    added = [token["content"] for token in json.loads(made.hf_tokenizer.to_str())["added_tokens"]]
    assert tuple(added) == BERT_SPECIAL  # the letters are no special tokens
    assert made.hf_tokenizer.encode("KAFÉ").tokens == made.hf_tokenizer.encode("kafe").tokens
    assert made.encode(["中"]) == [[made.id("[UNK]")]]
    assert made.encode(["[MASK]"]) == [[made.id("[MASK]")]]


def test_wordpiece_reads_as_transformers_reads_the_same_vocabulary(tmp_path: Path) -> None:
    from transformers import BertTokenizer

    made = train(texts, "wordpiece", 200, cased=True)
    made.save(tmp_path)
    (tmp_path / "vocab.txt").write_text("".join(f"{made.hf_tokenizer.id_to_token(number)}\n" for number in range(200)))
    theirs = BertTokenizer(str(tmp_path / "vocab.txt"), do_lower_case=False)
    tries = [*TEXTS[:20], "KATO kato, Café 中 [SEP] quzoing" + "a" * 101]
    assert made.encode(tries) == [theirs.encode(text, add_special_tokens=False) for text in tries]
    assert made.hf_tokenizer.encode("Café").tokens[0].startswith("C")


def test_bpe_is_laid_out_as_gpts() -> None:
    made = train(texts, "bpe", 200)
    assert made.hf_tokenizer.id_to_token(0) == "<unk>"
    tokens = made.hf_tokenizer.encode("Katomi katomi").tokens
    assert tokens[: len(tokens) // 2] == tokens[len(tokens) // 2 :]
    assert tokens[-1].endswith("</w>")
    assert made.hf_tokenizer.encode("中").tokens == ["<unk>"]
    assert made.hf_tokenizer.encode("z").tokens == ["z</w>"]  # a letter that never ended a word


def test_bytelevel_is_laid_out_as_gpt2s() -> None:
    made = train(texts, "bytelevel", 400)
    assert [made.hf_tokenizer.id_to_token(number) for number in (0, 1, 220, 399)] == ["!", '"', "Ġ", "<|endoftext|>"]
    assert made.encode(["<|endoftext|>"]) == [[399]]
    text = "Any text, 中文 \n\n\tand \x00 bytes 🙂"
    assert made.decode(made.encode([text])[0]) == text


def test_the_most_frequent_letters_are_kept() -> None:
    made = train(lambda: ["aaa bbb cc", "aaa bbb 中"], "wordpiece", 12, alphabet_size=2)
    vocab = [made.hf_tokenizer.id_to_token(number) for number in range(made.vocab_size)]
    assert vocab[5:9] == ["a", "b", "##a", "##b"]
    assert made.hf_tokenizer.encode("aab cc").tokens[-1] == "[UNK]"


def test_letters_are_counted_as_whole_texts_are_normalised() -> None:
    from collections import Counter

    from tokenizers import normalizers

    strange = [*TEXTS, "ÀÉ\u0301 ǅ ß İ Σς ﬁ \u00a0\u2028\u200d\ufffd\x07 한글 中 e\u0301"]
    for lowercase in (True, False):
        normalizer = normalizers.BertNormalizer(lowercase=lowercase)
        whole = Counter(letter for text in strange for letter in normalizer.normalize_str(text) if not letter.isspace())
        assert _character_counts(strange, normalizer) == whole


def test_a_long_text_is_read_in_pieces_at_spaces() -> None:
    long = "abc " * PIECE
    pieces = list(_pieces(["short", long, "x" * (PIECE + 1)]))
    assert pieces[0] == "short"
    assert "".join(pieces[1:-2]) == long
    assert all(piece.startswith(" abc") for piece in pieces[2:-2])
    assert [len(piece) for piece in pieces[-2:]] == [PIECE, 1]


def test_coverage_is_counted() -> None:
    made = train(texts, "wordpiece", 200)
    fit = coverage(made, "wordpiece", ["kato 中 kato", "[MASK]", "kato"], max_texts=2)
    assert (fit.texts, fit.words, fit.unknown) == (2, 4, 1)
    assert fit.tokens == 2 + 2 * len(made.encode(["kato"])[0])


@pytest.mark.parametrize(
    ("given", "kind", "size", "message"),
    [
        ([], "wordpiece", 100, "there is no text"),
        (["  ", ""], "bytelevel", 300, "there is no text"),
        (["ab"], "wordpiece", 9, "the special tokens and 2 letters, each alone and with its mark, are 9 already"),
        (["ab"], "bpe", 5, "are 5 already"),
        (["ab"], "bytelevel", 257, "the special tokens and 256 letters are 257 already"),
    ],
)
def test_what_cannot_be_learnt_from_is_refused(given, kind, size, message) -> None:
    with pytest.raises(UserError, match=message):
        train(lambda: given, kind, size)


def test_few_pairs_give_fewer_tokens_and_it_is_said(tmp_path: Path, capsys) -> None:
    (tmp_path / "a.txt").write_text("ab ab cd")
    command.main([str(tmp_path / "a.txt")], "wordpiece", 99, str(tmp_path / "new" / "t.json"))
    assert "t.json: 14 tokens (of 99: no other pair was seen twice)" in capsys.readouterr().out
    assert read_tokenizer(tmp_path / "new" / "t.json").encode(["ab"]) == [[13]]


def test_lines_columns_and_rows_are_the_same_texts(tmp_path: Path) -> None:
    given = ["one\u2028two", "drei", "中"]
    (tmp_path / "a.txt").write_bytes("\ufeffone\u2028two\r\n\n  \ndrei\n中".encode())
    (tmp_path / "b.jsonl").write_text("".join(json.dumps({"n": 1, "text": text}) + "\n" for text in [*given, None, ""]))
    pa.parquet.write_table(pa.table({"text": [*given, None, ""], "n": range(5)}), tmp_path / "c.parquet")
    for name in ("a.txt", "b.jsonl", "c.parquet"):
        assert list(command.texts([tmp_path / name])) == given
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "d.txt").write_text("x")
    assert command.text_files([f"{tmp_path}/**/*.txt", str(tmp_path / "a.txt")]) == [
        tmp_path / "a.txt", tmp_path / "deep" / "d.txt"
    ]  # fmt: skip


def test_what_is_no_text_is_named(tmp_path: Path) -> None:
    out = tmp_path / "t.json"

    def refused(name: str, content: bytes, message: str) -> None:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=message):
            command.main([str(tmp_path / name)], "wordpiece", 99, str(out))
        assert not out.exists()

    refused("a.txt", b"fine\nd\xe9j\xe0\n", r"a\.txt, line 2: byte 0xE9 is not UTF-8")
    refused("b.txt", b"\n \n", "there is no text")
    refused("c.jsonl", b'{"txt": "x"}\n{"txt": "x"}\n', r"c\.jsonl: no column 'text'; it has txt")
    refused("h.jsonl", b'{"text": [3.5]}\n', r"h\.jsonl: column 'text' holds list<item: double>, not text")
    refused("i.jsonl", b'["x"]\n', r"i\.jsonl, row 1: a text, where an object is expected")
    refused("d.jsonl", b'{"text": "x"}\n{\n', r"d\.jsonl, line 2: not JSON")
    refused("e.parquet", b"nothing", r"e\.parquet: cannot be read")
    refused(
        "f.zip", b"text\nx\n", r"f\.zip: not a text file; supported: \.parquet, \.jsonl, \.json, \.csv, \.tsv, \.txt"
    )
    pa.parquet.write_table(pa.table({"sentence": ["x"], "n": [1]}), tmp_path / "g.parquet")
    with pytest.raises(UserError, match=r"g\.parquet: no column 'text'; it has sentence, n"):
        command.main([str(tmp_path / "g.parquet")], "wordpiece", 99, str(out))
    pa.parquet.write_table(pa.table({"text": [[1], [2]]}), tmp_path / "j.parquet")
    with pytest.raises(UserError, match=r"j\.parquet: column 'text' holds list<.*>, not text"):
        command.main([str(tmp_path / "j.parquet")], "wordpiece", 99, str(out))
    for pattern in ("nowhere.txt", "*.md"):
        with pytest.raises(UserError, match="no such file"):
            command.main([str(tmp_path / pattern)], "wordpiece", 99, str(out))


def test_a_file_that_is_there_is_replaced_by_force_alone(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("ab ab cd")
    out = tmp_path / "t.json"
    out.write_text("mine")
    with pytest.raises(UserError, match="already exists; --force replaces it"):
        command.main([str(tmp_path / "a.txt")], "bpe", 99, str(out))
    assert out.read_text() == "mine"
    with pytest.raises(UserError, match="already"):  # too small: what was there stays
        command.main([str(tmp_path / "a.txt")], "bpe", 3, str(out), force=True)
    assert out.read_text() == "mine"
    command.main([str(tmp_path / "a.txt")], "bpe", 99, str(out), force=True)
    assert read_tokenizer(out).vocab_size > 9
    with pytest.raises(UserError, match="is a folder; give a file name"):
        command.main([str(tmp_path / "a.txt")], "bpe", 99, str(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "t.json"]
