"""Tokens as a reader sees them, one by one: for pictures, which decoding to running text would not serve."""

from collections.abc import Sequence

from protoformer.text.tokenizers import END, Tokenizer

SPACE, LINE = "·", "⏎"  # in front of a word, and in place of a line's end
UNDECODED = "\ufffd"  # bytes that are no letter by themselves


def labels(tokenizer: Tokenizer, ids: Sequence[int]) -> list[str]:
    """A word for each id: as the vocabulary has it, a byte-level one decoded, a space before a word as `·`.

    GPT's pieces that end no word end in `-`. What cannot be printed (control and direction marks) is written as its number.
    An id that the vocabulary lacks is `id N`.
    """
    marked = any(token.endswith(END) for token in tokenizer.hf_tokenizer.get_vocab(with_added_tokens=False))
    byte_level = type(tokenizer.hf_tokenizer.decoder).__name__ == "ByteLevel"
    special = {number for number, token in tokenizer.hf_tokenizer.get_added_tokens_decoder().items() if token.special}
    return [_label(tokenizer, number, marked and number not in special, byte_level) for number in ids]


def _label(tokenizer: Tokenizer, number: int, marked: bool, byte_level: bool) -> str:
    text = tokenizer.hf_tokenizer.id_to_token(number)
    if text is None:
        return f"id {number}"
    if marked:
        text = text.removesuffix(END) if text.endswith(END) else f"{text}-"
    elif byte_level and UNDECODED not in (
        decoded := tokenizer.hf_tokenizer.decode([number], skip_special_tokens=False)
    ):
        text = decoded
    text = text.replace("\n", LINE)
    if text.startswith(" "):
        text = SPACE + text[1:]
    return "".join(letter if letter.isprintable() else f"<{ord(letter):x}>" for letter in text)
