"""How GPT's own code cleaned and split its texts (Radford et al. 2018, section 4.1: "the ftfy library to clean the raw text ...
standardize some punctuation and whitespace, and use the spaCy tokenizer"), as one normalizer of the `tokenizers` library.

Words are written apart by spaces, lower-cased last, since where spaCy splits depends on case. What is left to do is to cut at
spaces; a line break stays, which is a token of GPT's vocabulary.

Differs: of ftfy, text that was decoded by a wrong encoding is not repaired, HTML's entities and terminal escapes stay, and wide
letters keep their width. Of spaCy's English rules (version 2), the exceptions are those for contractions, clock times,
abbreviations and a few emoticons; addresses of pages have no rule of their own.
"""

from typing import Literal

from tokenizers import Regex, normalizers

Normalization = Literal["original", "bert"]

# single marks that are a word each; of the others a run is one word (text_standardize in the paper's code)
SINGLE, IN_RUNS = r"""!";?,()*\[\]{}_+""", ("-", "~", r"\\", "/", r"\|")
REPAIRS = (  # ftfy's: line breaks, what cannot be seen, curled quotes, ligatures
    ("\r\n|[\r\u0085\u2028\u2029]", "\n"),
    ("[\u0000-\u0008\u000b\u000e-\u001f\u007f-\u0084\u0086-\u009f\u206a-\u206f\ufeff\ufff9-\ufffb]", ""),
    ("[\u02bc\u2018-\u201b]", "'"),
    ("[\u201c-\u201f]", '"'),
    ("\ufb00", "ff"),
    ("\ufb01", "fi"),
    ("\ufb02", "fl"),
    ("\ufb03", "ffi"),
    ("\ufb04", "ffl"),
    ("[\ufb05\ufb06]", "st"),
)
STANDARD = (("[\u2013-\u2015]", "-"), ("\u2026", "..."), ("\u00b4", "'"))

END = r"(?![\w'=]|[<>]\w)"  # of a word
NEGATED = "ca could do does did had have has is are was were may might must need ought sha should wo would ai dare"
PRONOUNS, ASKING = "you he she it we they", "who what when where why how there that"
BARE = {  # contractions without their apostrophe, where that is no other word
    "nt": "ca could do does did had have has is are was were must need sha should wo would ai",
    "m": "i",
    "re": f"you they {ASKING}",
    "ve": f"i you we they could might must should would {ASKING}",
    "ll": f"you it they {ASKING}",
    "d": f"i you he it we they {ASKING}",
    "s": f"he she {ASKING}",
}
SPLIT_WORDS = (("can", "not"), ("gon", "na"), ("got", "ta"), ("c'm", "on"), ("y'", "all"), ("y", "all"))
KEPT_AFTER_QUOTE = "em cause Cause cos Cos coz Coz cuz Cuz bout nuff ll re d s S"  # 'em
KEPT_BEFORE_QUOTE = "doin goin havin lovin nothin nuthin somethin ol y"  # goin'
ABBREVIATIONS = (
    "Mr Mrs Ms Dr Prof St Mt Jr Gen Gov Rep Rev Sen Adm Messrs Inc Corp Co co Ltd Bros vs Jan Feb Mar Apr Jun Jul Aug Sep "
    "Sept Oct Nov Dec Ala Ariz Ark Calif Colo Conn Del Fla Ga Ia Id Ill Ind Kan Kans Ky La Mass Md Mich Minn Miss Mo Mont Neb "
    "Nebr Nev Okla Ore Pa Tenn Va Wash Wis a.m p.m e.g i.e E.g I.e v.s"
)
UNITS = (
    "km|m|dm|cm|mm|ha|nm|yd|in|ft|kg|g|mg|t|lb|oz|kmh|mph|hPa|Pa|mbar|mb|MB|kb|KB|gb|GB|tb|TB|T|G|M|K|%|\u00b5m|\u00b5g|"
    "[kdcm]?m[\u00b2\u00b3]"
)
MONEY = "$\u00a3\u20ac\u00a5\u0e3f\u20b9\u20bd"
QUOTES = "`\u00ab\u00bb\u201a\u201e"
OPENING = rf"['\u00a7%=#&:<>\u00bf\u00a1\u00b7{MONEY}{QUOTES}]"  # at the beginning of a word
CLOSING = rf"[:<>#&\u00bf\u00a1\u00b7{QUOTES}]"  # at its end


def gpt_normalizer() -> normalizers.Normalizer:
    """The paper code's clean-up: words apart by one space each, lower-cased."""
    return normalizers.Sequence(
        [
            *(_replace(pattern, by) for pattern, by in (*REPAIRS, *STANDARD)),
            normalizers.NFC(),
            _apart(_marks()),
            _replace(r"\s*\n\s*", " \n "),
            _replace(r"[^\S\n]+", " "),
            normalizers.Strip(),
            normalizers.Prepend(" "),  # so that every word has a space before it
            _apart(_beginnings()),
            _apart(_contractions()),
            _apart(_ends()),
            _apart(_middles()),
            normalizers.Strip(),
            normalizers.Lowercase(),
        ]
    )


def _replace(pattern: str, by: str) -> normalizers.Normalizer:
    return normalizers.Replace(Regex(pattern), by)


def _apart(patterns: list[str]) -> normalizers.Normalizer:
    """Inserts a space at every match of one of the patterns, which match no character."""
    return _replace("|".join(patterns), " ")


def _after(words: str, before: str = r"\b") -> str:
    """Right after one of the words, lower-cased or with a capital."""
    either = [f"[{word[0].upper()}{word[0]}]{word[1:]}" for word in words.split()]
    return f"(?<={'|'.join(before + word for word in either)})"


def _marks() -> list[str]:
    runs = [
        pattern for one in IN_RUNS for pattern in (rf"(?<={one})(?!{one})(?=\S)", rf"(?={one})(?<![\s{one}])(?<=\S)")
    ]
    return [rf"(?<=[{SINGLE}])(?=\S)", rf"(?<=\S)(?=[{SINGLE}])", *runs]


def _contractions() -> list[str]:
    return [
        rf"(?=n't(?:'ve)?{END}){_after(NEGATED)}",
        rf"(?='ma?{END}){_after('i')}",
        rf"(?='(?:ll|d|ve|re)(?:'ve)?{END}){_after(f'i {PRONOUNS} {ASKING}')}",
        rf"(?='ve{END})(?:{_after('could might must should would not')}|(?<=n't|'ll|'d))",
        *(rf"(?={end}{END}){_after(words)}" for end, words in BARE.items()),
        *(rf"(?={second}{END}){_after(first)}" for first, second in SPLIT_WORDS),
        rf"(?=[ap](?:m|\.m\.){END})(?<=\s\d|\s1[0-2])",
    ]


def _beginnings() -> list[str]:
    kept = KEPT_AFTER_QUOTE.replace(" ", "|")
    whole = rf"(?<=')(?:{kept}){END}|(?<=\s')'(?!\S)|(?<=[:=])[DPpOoXx03](?!\S)|(?<=<)3+(?!\S)"
    opened = "|".join(rf"\s{OPENING * many}" for many in (1, 2, 3))
    return [rf"(?=\S)(?<={opened})(?!{whole})", r"(?<=\sUS\$|\s[CA]\$)(?=\S)"]


def _ends() -> list[str]:
    """Where nothing but endings follows in the word."""
    abbreviated = "|".join(rf"\s{word}" for word in ABBREVIATIONS.replace(".", r"\.").split())
    kept = _after(KEPT_BEFORE_QUOTE).replace("(?<=", "(?<!", 1)
    stop = (
        rf"(?=\.)(?<=[\p{{Ll}}\d%\u00b2+'{QUOTES}:<>#&]|\p{{Lu}}\p{{Lu}})(?<!\s[a-z\u00e4\u00f6\u00fc]|{abbreviated})\."
    )
    quote = rf"(?='){kept}(?!(?<=\s')'(?!\S))'"
    endings = [CLOSING, quote, r"(?<!\.)\.\.+", "'[sS]", rf"(?<=\d)(?:{UNITS}|[{MONEY}])", stop]
    return [rf"(?<=\S)(?=(?:{'|'.join(endings)})+(?!\S))"]


def _middles() -> list[str]:
    return [
        r"(?=\.\p{Lu})(?<=\p{Ll})(?<!\sPh)",
        r"(?<=\p{Ll}\.)(?=\p{Lu})(?<!\sPh\.)",
        r"(?=[:<>=]\p{L})(?<=\p{L})",
        r"(?<=\p{L}[:<>=])(?=\p{L})",
        r"(?=\^[\d-])(?<=\d)",
        r"(?<=\d\^)(?=[\d-])",
        r"(?=\.\.)(?<=[^.\s])",
        r"(?<=\.\.)(?=[^.\s])",
        r"(?<=\p{So})(?=\S)",
        r"(?=\p{So})(?<=\S)",
    ]
