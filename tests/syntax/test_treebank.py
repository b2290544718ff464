"""CoNLL-U: words, contractions, left-out words, trees; what is no tree is named by file and line."""

from pathlib import Path
from random import Random

import pytest

from protoformer.errors import ConfigurationError
from protoformer.sample.treebank import treebank
from protoformer.syntax.treebank import read

DIDNT = """# sent_id = 1
# text = She didn't run, Kim did.
1\tShe\tshe\tPRON\t_\t_\t4\tnsubj\t_\t_
2-3\tdidn't\t_\t_\t_\t_\t_\t_\t_\t_
2\tdid\tdo\tAUX\t_\t_\t4\taux\t_\t_
3\tn't\tnot\tPART\t_\t_\t4\tadvmod\t_\t_
4\trun\trun\tVERB\t_\t_\t0\troot\t_\tSpaceAfter=No
5\t,\t,\tPUNCT\t_\t_\t7\tpunct\t_\t_
6\tKim\tKim\tPROPN\t_\t_\t7\tnsubj:pass\t_\t_
7\tdid\tdo\tVERB\t_\t_\t4\tparataxis\t_\tSpaceAfter=No
7.1\trun\trun\tVERB\t_\t_\t_\t_\t7:xcomp\t_
8\t.\t.\tPUNCT\t_\t_\t4\tpunct\t_\t_
"""


def written(folder: Path, text: str) -> Path:
    file = folder / "a.conllu"
    file.write_text(text, encoding="utf-8")
    return file


def test_words_and_arcs(tmp_path: Path) -> None:
    (sentence,) = read(written(tmp_path, DIDNT))
    assert sentence.text == "She didn't run, Kim did."
    assert [sentence.text[start:end] for start, end in sentence.offsets] == list(sentence.forms)
    assert sentence.forms == ("She", "did", "n't", "run", ",", "Kim", "did", ".")
    assert sentence.heads == (3, 3, 3, -1, 6, 6, 3, 3)
    assert sentence.arcs == [
        (0, 3, "nsubj"), (1, 3, "aux"), (2, 3, "advmod"), (5, 6, "nsubj"), (6, 3, "parataxis")
    ]  # fmt: skip


def test_words_that_do_not_make_up_their_token_share_it(tmp_path: Path) -> None:
    text = "1-2\tdel\t_\t_\t_\t_\t_\t_\t_\t_\n1\tde\t_\tADP\t_\t_\t2\tcase\t_\t_\n2\tel\t_\tDET\t_\t_\t0\troot\t_\t_\n"
    (sentence,) = read(written(tmp_path, text))
    assert sentence.offsets == ((0, 3), (0, 3))


def test_several_sentences_of_other_systems(tmp_path: Path) -> None:
    both = read(written(tmp_path, f"{DIDNT}\n\n{DIDNT}".replace("\n", "\r\n")))
    assert len(both) == 2
    assert both[0] == both[1]
    assert read(written(tmp_path, f"\ufeff{DIDNT}".rstrip("\n"))) == both[:1]  # as Windows' editors write it
    assert len(read(written(tmp_path, treebank(Random(0), range(2), 7)))) == 7


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no sentence"),
        ("1\ta\n", "line 1: 2 columns"),
        (DIDNT.replace("4\trun", "5\trun"), "line 7: word '5'.* word 4 was expected"),
        (DIDNT.replace("\t0\troot", "\t_\troot"), "line 7: head '_' of word 4"),
        (DIDNT.replace("\t0\troot", "\t7\troot"), "line 3: not a tree of 8 words: 0 roots"),
        (DIDNT.replace("\t4\tparataxis", "\t9\tparataxis"), "line 3: .* largest head 9"),
        (DIDNT.replace("\t7\tnsubj:pass", "\t²\tnsubj:pass"), "line 9: head '²' of word 6; a number, 0 for the root"),
        (DIDNT.replace("2-3\t", "2-x\t"), "line 4: word '2-x', where word 2 was expected"),
        (DIDNT.replace("2-3\t", "-3\t"), "line 4: word '-3'"),
        (DIDNT.replace("2-3\t", "3-4\t"), "line 4: token 3-4; .* from word 2 on"),
        (DIDNT.replace("2-3\t", "2-1\t"), "line 4: token 2-1; "),
        (DIDNT.replace("3\tn't", "3-4\tn't"), "line 6: token 3-4; .* from word 4 on"),
        (DIDNT.replace("2-3\t", "2-9\t"), "line 3: the sentence has no word 9"),
        ("1.1\ta\t_\tX\t_\t_\t_\t_\t_\t_\n", "line 1: the sentence has no word 1"),
        (DIDNT.replace("run\trun", "\trun"), "line 7: column 2 is empty"),
        (DIDNT.replace("4\trun", "# a comment\n5\trun"), "line 8: word '5'"),
        (DIDNT.replace("7\tnsubj:pass", "6\tnsubj:pass"), "line 3: the heads of word 6 go in a circle"),
    ],
)
def test_what_is_no_tree_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"a\.conllu.*{message}"):
        read(written(tmp_path, text))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"b\.conllu: No such file"):
        read(tmp_path / "b.conllu")
    (tmp_path / "c.conllu").write_bytes(b"1\t\xff")
    with pytest.raises(ConfigurationError, match=r"c\.conllu: byte 2"):
        read(tmp_path / "c.conllu")
