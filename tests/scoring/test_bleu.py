"""BLEU by sacreBLEU and as the 2017 paper counted it, against numbers that were worked out elsewhere or by hand."""

import importlib.util
import math

import pytest

from protoformer.scoring.bleu import bleu, compound_bleu, moses, split_compounds

# the tokens as Moses' own tokenizer writes them (-no-escape), and as the paper's script then splits them
GOLDEN = [
    (
        'Der "rot-weiße" Bus (Linie 3,5) fährt z.B. heute.',
        'Der " rot-weiße " Bus ( Linie 3,5 ) fährt z.B. heute .',
        'Der " rot ##AT##-##AT## weiße " Bus ( Linie 3,5 ) fährt z.B. heute .',
    ),
    (
        "Ein Schwarz-Weiß-Foto - alt & schön!",
        "Ein Schwarz-Weiß-Foto - alt & schön !",
        "Ein Schwarz ##AT##-##AT## Weiß ##AT##-##AT## Foto - alt & schön !",
    ),
    ("a-b-c -d e-", "a-b-c -d e-", "a ##AT##-##AT## b-c -d e-"),  # one hyphen's neighbour is not another's
]


@pytest.mark.parametrize(("text", "tokens", "split"), GOLDEN)
def test_tokens_and_split_compounds(text: str, tokens: str, split: str) -> None:
    assert moses(text, "de") == tokens
    assert split_compounds(tokens) == split


def by_hand(matches: list[tuple[int, int]], hypothesis: int, reference: int) -> float:
    """Papineni's formula: the geometric mean of four precisions, times the brevity penalty."""
    precision = math.exp(sum(math.log(actual / there) for actual, there in matches) / 4)
    return 100 * precision * min(1.0, math.exp(1 - reference / hypothesis))


def test_numbers_by_hand() -> None:
    hypothesis, reference = "the red dog runs over the old hill", "the red dog runs over an old hill today"
    actual = bleu([hypothesis], [reference])
    assert actual.score == pytest.approx(by_hand([(7, 8), (5, 7), (3, 6), (2, 5)], 8, 9))
    assert actual.signature.startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    assert bleu([reference], [reference]).score == pytest.approx(100)
    assert bleu(["x y"], ["a b c d"]).score == 0


def test_compounds_count_as_their_parts() -> None:
    hypothesis, reference = "ein rot-weißer Bus fährt", "ein rot-grüner Bus fährt"
    # ein rot ##AT##-##AT## weißer Bus fährt
    assert compound_bleu([hypothesis], [reference], "de").score == pytest.approx(
        0
    )  # no four in a row, nothing smoothed
    longer = "heute " + hypothesis, "heute " + reference
    actual = compound_bleu([longer[0]], [longer[1]], "de")
    assert actual.score == pytest.approx(by_hand([(6, 7), (4, 6), (2, 5), (1, 4)], 7, 7))
    assert "tok:none|smooth:none" in actual.signature
    assert "moses:de|compounds:split" in actual.signature
    assert bleu([longer[0]], [longer[1]]).score < actual.score


def test_a_corpus_is_no_mean_of_sentences_and_sides_are_as_long() -> None:
    texts = ["the dog runs over the hill", "a cat sleeps under the old tree"]
    other = ["the dog runs over a hill", "a cat sleeps under the old tree"]
    together = bleu(texts, other).score
    assert together != pytest.approx((bleu(texts[:1], other[:1]).score + 100) / 2)
    for measure in (lambda a, b: bleu(a, b), lambda a, b: compound_bleu(a, b, "de")):
        with pytest.raises(ValueError, match="2 hypotheses and 1 references"):
            measure(texts, other[:1])
        with pytest.raises(ValueError, match="at least one"):
            measure([], [])


@pytest.mark.parametrize(
    ("language", "text", "tokenizer"),
    [
        ("zh", "我喜欢吃红苹果和香蕉。", "zh"),
        ("target", "他们今天去公园散步了。", "zh"),
        ("zh-CN", "用 iPhone 和 Windows Macintosh 听歌", "zh"),
        ("ja", "東京都立大学附属図書館", "ja"),
        ("xx", "私は赤いりんごを食べます。", "ja"),
        ("ko", "나는 빨간 사과를 먹는다.", "ko"),
        ("th", "ฉันชอบกินแอปเปิ้ล", "char"),
        ("km", "ខ្ញុំចូលចិត្តផ្លែប៉ោម", "char"),
        ("de", "Ich esse gern rote Äpfel.", "13a"),
        ("zh", "pinyin without a single sign", "13a"),
        ("ru", "Я люблю яблоки.", "13a"),
        ("en", "1, 2, 3!", "13a"),
    ],
)
def test_the_tokenizer_is_that_of_the_references_script(language: str, text: str, tokenizer: str) -> None:
    mecab = {"ja": ("ja-mecab", "MeCab"), "ko": ("ko-mecab", "mecab_ko")}
    if tokenizer in mecab:
        name, library = mecab[tokenizer]
        tokenizer = name if importlib.util.find_spec(library) else "char"
    found = bleu([text], [text], language=language)
    assert f"|tok:{tokenizer}|" in found.signature
    assert found.score == pytest.approx(100) or tokenizer == "13a"
    assert bleu([text], [text], "intl").signature.count("tok:intl") == 1


def test_a_text_without_spaces_is_more_than_one_word() -> None:
    hypotheses, references = ["我喜欢吃红苹果和香蕉。"], ["我喜欢吃青苹果和香蕉。"]
    assert bleu(hypotheses, references, "13a").score == 0
    assert 50 < bleu(hypotheses, references).score < 100
