"""SentencePiece's words in Marian's folders: `source.spm` and `target.spm` cut the two sides, `vocab.json` numbers the pieces.

A text is cut where the sum of its pieces' log-probabilities is largest (arXiv 1804.10959, section 3.2). The files are read by
the library of their own, and made into tokenizers of the one library that everything else is cut with.

Differs: of two neighbouring characters that a side does not know, each is one token here and both are one there.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from protoformer.errors import UserError
from protoformer.text.tokenizers import Tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer as HFTokenizer

NUMBERS, SOURCE, TARGET = FILES = ("vocab.json", "source.spm", "target.spm")
UNKNOWN = "<unk>"
RARELY, NEVER = -1e4, -1e7  # log-probabilities of pieces that a side's own file lacks: of one character, and of several
UNIGRAM, NORMAL = 1, 1  # in the file's own numbers: the kind of model, and of piece


class SourceTargetTokenizer(Tokenizer):
    """Sources and targets are cut apart, and numbered together. `files` are those that it was read from."""

    def __init__(self, source: "HFTokenizer", target: "HFTokenizer", files: dict[str, bytes], origin: str) -> None:
        super().__init__(source, origin)
        self.target, self.files = Tokenizer(target, origin), files
        self.digest += self.target.digest

    def encode_targets(self, texts: Sequence[str]) -> list[list[int]]:
        return self.target.encode(texts)

    def decode(self, ids: Sequence[int]) -> str:
        return self.target.decode(ids)

    def save(self, folder: Path) -> None:
        """The files themselves, which Marian's own tokenizer in `transformers` opens too."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in self.files.items():
            (folder / name).write_bytes(content)


def read_source_target_tokenizer(folder: Path) -> SourceTargetTokenizer:
    """Raises UserError where a file lacks, or holds something else than pieces of a unigram model and their numbers."""
    try:
        files = {name: (folder / name).read_bytes() for name in FILES}
    except FileNotFoundError as error:
        raise UserError(
            f"{error.filename}: it belongs to the other two of {', '.join(FILES)}, and is not there"
        ) from None
    try:
        numbers = {str(piece): int(number) for piece, number in json.loads(files[NUMBERS]).items()}
    except (ValueError, AttributeError) as error:
        raise UserError(f"{folder / NUMBERS}: no vocabulary ({error})") from error
    if UNKNOWN not in numbers:
        raise UserError(f"{folder / NUMBERS}: the vocabulary lacks the special token {UNKNOWN}")
    if sorted(numbers.values()) != list(range(len(numbers))):
        raise UserError(f"{folder / NUMBERS}: its numbers are not those from 0 to {len(numbers) - 1}, each once")
    source, target = (_side(folder / name, files[name], numbers) for name in (SOURCE, TARGET))
    return SourceTargetTokenizer(source, target, files, str(folder))


def _side(path: Path, content: bytes, numbers: dict[str, int]) -> "HFTokenizer":
    from tokenizers import Tokenizer as HFTokenizer
    from tokenizers import decoders, models, pre_tokenizers

    model = _parsed(path, content)
    own = {piece.piece: piece.score for piece in model.pieces if piece.type == NORMAL}
    scores = {piece: RARELY if len(piece) == 1 else NEVER for piece in numbers} | own
    hf_tokenizer = HFTokenizer(
        models.Unigram([(piece, scores[piece]) for piece in sorted(numbers, key=numbers.__getitem__)], numbers[UNKNOWN])
    )
    hf_tokenizer.normalizer = _normalizer(model.normalizer_spec)
    hf_tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    hf_tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    hf_tokenizer.add_tokens(
        [piece for piece in numbers if piece.startswith(">>") and piece.endswith("<<")]
    )  # names of languages
    return hf_tokenizer


def _parsed(path: Path, content: bytes) -> Any:
    from google.protobuf.message import DecodeError
    from sentencepiece import sentencepiece_model_pb2

    model = sentencepiece_model_pb2.ModelProto()  # type: ignore[attr-defined]
    try:
        model.ParseFromString(content)
    except DecodeError as error:
        raise UserError(f"{path}: not a SentencePiece model ({error})") from error
    if not model.pieces:
        raise UserError(f"{path}: not a SentencePiece model (it holds no pieces)")
    spec, normalizer = model.trainer_spec, model.normalizer_spec
    other = {
        "a model of pairs, words or characters": spec.model_type != UNIGRAM,
        "bytes for unknown characters": spec.byte_fallback,
        "spaces as ends of words": spec.treat_whitespace_as_suffix,
        "no space before a text": not normalizer.add_dummy_prefix,
        "spaces kept as they are": not (normalizer.remove_extra_whitespaces and normalizer.escape_whitespaces),
    }
    if unsupported := [what for what, there in other.items() if there]:
        raise UserError(f"{path}: {', '.join(unsupported)}: not read here, where a unigram model is, as Marian's are")
    return model


def _normalizer(spec: Any) -> Any:
    from tokenizers import Regex, normalizers

    charsmap = [normalizers.Precompiled(spec.precompiled_charsmap)] if spec.precompiled_charsmap else []
    return normalizers.Sequence([*charsmap, normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")])
