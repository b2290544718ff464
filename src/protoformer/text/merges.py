"""BPE from a merges file as subword-nmt writes it (arXiv 1508.07909), such as WMT's `bpe.32000`.

Its words are Moses' tokens, with `</w>` after the last character of each (equivalent to `@@` after all other pieces). The
vocabulary is every character of the merges and of Western Europe (a bracket is merged with nothing), each with and without
`</w>`, and the result of every merge. Any other character is unknown.

Differs: Moses' tokenizer is a long list of rules of which the most frequent are kept here, for any language: punctuation
stands alone, but not inside of a word or number (`rot-weiß`, `3,5`). Texts that are tokenised already stay as they are.
"""

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Regex, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as HFTokenizer

from protoformer.errors import UserError

END, UNKNOWN = "</w>", "<unk>"
HEAD = b"#version"
WESTERN = [chr(number) for number in (*range(0x21, 0x7F), *range(0xA1, 0x100))]
WORD = r"[^\s\p{P}\p{S}]+(?:(?:[-'.]|(?<=\d),(?=\d))[^\s\p{P}\p{S}]+)*|(?:&\w+;)|(?:@-@)|[\p{P}\p{S}]"


def is_merges(path: Path) -> bool:
    """Whether the file begins as subword-nmt's merges files do."""
    with path.open("rb") as file:
        return file.read(len(HEAD)) == HEAD


def read_merges(path: Path) -> HFTokenizer:
    """Raises UserError for a line that is not a pair of tokens."""
    try:
        lines = path.read_bytes().decode("utf-8").split("\n")[1:]
    except UnicodeDecodeError as error:
        raise UserError(f"{path}, byte {error.start}: not UTF-8 ({error.reason})") from None
    pairs: list[tuple[str, str]] = []
    for number, line in enumerate(lines, start=2):
        parts = line.removesuffix("\r").split(" ")
        if len(parts) == 2:
            pairs.append((parts[0], parts[1]))
        elif line.strip():
            raise UserError(f"{path}, line {number}: {line!r} is not a pair of tokens")
    return tokenizer(pairs)


def tokenizer(merges: Sequence[tuple[str, str]]) -> HFTokenizer:
    merged = {character for pair in merges for token in pair for character in token.removesuffix(END)}
    alphabet = sorted(merged | set(WESTERN))
    ordered = dict.fromkeys(
        [
            UNKNOWN,
            *alphabet,
            *(f"{character}{END}" for character in alphabet),
            *(left + right for left, right in merges),
        ]
    )
    vocab = {token: number for number, token in enumerate(ordered)}
    hf_tokenizer = HFTokenizer(models.BPE(vocab, list(merges), unk_token=UNKNOWN, end_of_word_suffix=END))
    hf_tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(WORD), "removed", invert=True)
    hf_tokenizer.decoder = decoders.BPEDecoder(suffix=END)
    hf_tokenizer.add_special_tokens([UNKNOWN])
    return hf_tokenizer
