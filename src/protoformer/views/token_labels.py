"""Labels of single tokens, for pictures: each shows its spaces, which decoding to text would drop."""

from collections.abc import Sequence

from protoformer.text.tokenizers import END, Tokenizer

SPACE, LINE = "·", "⏎"  # a leading space, and a line feed
REPLACEMENT_CHARACTER = "\ufffd"  # what bytes that are no complete character decode to


def token_labels(tokenizer: Tokenizer, ids: Sequence[int]) -> list[str]:
    """A label for each id: its token, decoded if byte-level, with a leading space shown as `·`.

    GPT's tokens that do not end a word end in `-`. Unprintable characters (control and direction marks) are shown as `<code>`
    in hexadecimal. An id without a token is `id N`.
    """
    has_word_ends = any(token.endswith(END) for token in tokenizer.hf_tokenizer.get_vocab(with_added_tokens=False))
    byte_level = type(tokenizer.hf_tokenizer.decoder).__name__ == "ByteLevel"
    special = {
        token_id for token_id, token in tokenizer.hf_tokenizer.get_added_tokens_decoder().items() if token.special
    }
    return [_label(tokenizer, token_id, has_word_ends and token_id not in special, byte_level) for token_id in ids]


def _label(tokenizer: Tokenizer, token_id: int, has_word_ends: bool, byte_level: bool) -> str:
    text = tokenizer.hf_tokenizer.id_to_token(token_id)
    if text is None:
        return f"id {token_id}"
    if has_word_ends:
        text = text.removesuffix(END) if text.endswith(END) else f"{text}-"
    elif byte_level and REPLACEMENT_CHARACTER not in (
        decoded := tokenizer.hf_tokenizer.decode([token_id], skip_special_tokens=False)
    ):
        text = decoded
    text = text.replace("\n", LINE)
    if text.startswith(" "):
        text = SPACE + text[1:]
    return "".join(character if character.isprintable() else f"<{ord(character):x}>" for character in text)
