"""`protoformer evaluate`: a language model's perplexity on files, printed as a table."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from protoformer.data.sources.text_files import base_suffix, open_text
from protoformer.errors import ConfigurationError, DataError
from protoformer.inference.files.columns import RowError, row_text
from protoformer.inference.files.rows import TEXT, open_input
from protoformer.inference.generate import load_decoder
from protoformer.inference.perplexity import LanguageModelScore, score_texts
from protoformer.runs.digests import matching_files


def perplexity_of_files(
    source: str,
    patterns: Sequence[str],
    stride: int | None = None,
    window: int | None = None,
    rows: int | None = None,
) -> LanguageModelScore:
    """The score of a run, a folder of weights or a hub id on files: a text file is one text, rows of others are one each.

    Raises ConfigurationError for a model that is no decoder, DataError for a file that cannot be read.
    """
    generator = load_decoder(source)
    if not generator.eos_ids:
        raise ConfigurationError(f"{source}: its vocabulary has no end-of-text token, from which a text is begun")
    texts = texts_of_files(patterns)
    model, tokenizer, end_id = generator.model, generator.tokenizer, generator.eos_ids[0]
    return score_texts(model, tokenizer, texts, end_id, stride=stride, window=window, rows=rows)


def texts_of_files(patterns: Sequence[str]) -> Iterator[str]:
    """The texts of files. Raises DataError where a pattern matches none, or a row has no text."""
    for pattern in patterns:
        paths = matching_files(pattern)
        if not paths:
            raise DataError(f"source.files={pattern}: no such file")
        for path in paths:
            yield from _texts(path)


def _texts(path: Path) -> Iterator[str]:
    if base_suffix(path) == ".txt":
        with open_text(path, None) as file:
            yield _valid(file.read(), path)
        return
    with open_input(str(path)) as opened:
        for row in opened.rows:
            try:
                if row.problem is not None:
                    raise RowError(row.problem)
                yield row_text(row.values, TEXT)
            except RowError as error:
                raise DataError(f"{row.location}: {error}") from None


def _valid(text: str, path: Path) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        line = text.count("\n", 0, error.start) + 1
        raise DataError(f"{path}, line {line}: not UTF-8; convert the file") from None
    return text


def print_perplexity(
    source: str,
    patterns: Sequence[str],
    stride: int | None,
    window: int | None,
    rows: int | None = None,
    origin: str = "the model's positions",
) -> None:
    """Print the score as a table; `origin` says where the window is from."""
    score = perplexity_of_files(source, patterns, stride, window, rows)
    shown = {
        "token perplexity": f"{score.token_perplexity:.4f}",
        "word perplexity": f"{score.word_perplexity:.4f}",
        "bits per byte": f"{score.bits_per_byte:.4f}",
        "tokens": f"{score.tokens:,}",
        "words": f"{score.words:,}",
        "bytes": f"{score.text_bytes:,}",
        "window": f"{score.window} tokens ({origin})",
        "stride": f"{score.stride} tokens",
    }
    for name, value in shown.items():
        print(f"{name:<18}{value}")
