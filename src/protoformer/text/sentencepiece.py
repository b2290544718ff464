"""SentencePiece tokenizers of Marian's folders: a unigram model for sources and one for targets, with one vocabulary.

`source.spm` and `target.spm` hold the models, `vocab.json` the ids. A text is segmented so that the sum of its pieces'
log-probabilities is largest (arXiv 1804.10959, section 3.2). The models are parsed by `sentencepiece` and run by `tokenizers`.

Differs: two adjacent unknown characters are two tokens here, and one in SentencePiece.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError
from sentencepiece import sentencepiece_model_pb2
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as HFTokenizer

from protoformer.errors import UserError
from protoformer.json_files import Values, read_object
from protoformer.text.tokenizers import Tokenizer

VOCAB, SOURCE, TARGET = "vocab.json", "source.spm", "target.spm"
FILES = (VOCAB, SOURCE, TARGET)
UNKNOWN = "<unk>"
# log-probabilities of pieces of the vocabulary that a model lacks: of one character, and of several
MISSING_CHARACTER, MISSING_PIECE = -1e4, -1e7
UNIGRAM = 1  # model_type in the file
NORMAL = 1  # type of a piece in the file


class SourceTargetTokenizer(Tokenizer):
    """Sources and targets are segmented by different models, with ids of one vocabulary; texts are decoded as targets.

    `files` are the contents of the files that it was read from.
    """

    def __init__(self, source: HFTokenizer, target: HFTokenizer, files: dict[str, bytes], origin: str) -> None:
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
    """The tokenizer of a folder. Raises UserError for a missing file, or one that is no unigram model or no vocabulary."""
    try:
        files = {name: (folder / name).read_bytes() for name in FILES}
    except FileNotFoundError as error:
        raise UserError(
            f"{error.filename}: it belongs to the other two of {', '.join(FILES)}, and is not there"
        ) from None
    except OSError as error:
        raise UserError(f"{error.filename}: cannot be read ({error.strerror or error})") from None
    vocabulary = Values(read_object(folder / VOCAB, UserError), error=UserError)
    ids = {str(piece): vocabulary.whole(piece, minimum=0) for piece in vocabulary.values}
    if (config := folder / "tokenizer_config.json").is_file() and Values(
        read_object(config, UserError), error=UserError
    ).flag("separate_vocabs", False):
        raise UserError(f"{config}: separate_vocabs=true: two vocabularies are not read")
    if UNKNOWN not in ids:
        raise UserError(f"{folder / VOCAB}: the vocabulary lacks the special token {UNKNOWN}")
    if sorted(ids.values()) != list(range(len(ids))):
        raise UserError(f"{folder / VOCAB}: its numbers are not those from 0 to {len(ids) - 1}, each once")
    source, target = (_unigram(folder / name, files[name], ids) for name in (SOURCE, TARGET))
    return SourceTargetTokenizer(source, target, files, str(folder))


def _unigram(path: Path, content: bytes, ids: dict[str, int]) -> HFTokenizer:
    model = _parse(path, content)
    scores = {piece: MISSING_CHARACTER if len(piece) == 1 else MISSING_PIECE for piece in ids}
    scores |= {piece.piece: piece.score for piece in model.pieces if piece.type == NORMAL}
    pieces = sorted(ids, key=ids.__getitem__)
    hf_tokenizer = HFTokenizer(models.Unigram([(piece, scores[piece]) for piece in pieces], ids[UNKNOWN]))
    hf_tokenizer.normalizer = _normalizer(model.normalizer_spec)
    hf_tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    hf_tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    language_tokens = [piece for piece in ids if piece.startswith(">>") and piece.endswith("<<")]
    hf_tokenizer.add_tokens(language_tokens)
    return hf_tokenizer


def _parse(path: Path, content: bytes) -> Any:
    model = sentencepiece_model_pb2.ModelProto()  # type: ignore[attr-defined]  # generated without types
    try:
        model.ParseFromString(content)
    except DecodeError as error:
        raise UserError(f"{path}: not a SentencePiece model ({error})") from error
    if not model.pieces:
        raise UserError(f"{path}: not a SentencePiece model (it holds no pieces)")
    spec, normalizer = model.trainer_spec, model.normalizer_spec
    refused = {
        "a model of pairs, words or characters": spec.model_type != UNIGRAM,
        "bytes for unknown characters": spec.byte_fallback,
        "spaces as ends of words": spec.treat_whitespace_as_suffix,
        "no space before a text": not normalizer.add_dummy_prefix,
        "spaces kept as they are": not (normalizer.remove_extra_whitespaces and normalizer.escape_whitespaces),
    }
    if unsupported := [feature for feature, is_used in refused.items() if is_used]:
        raise UserError(f"{path}: {', '.join(unsupported)}: not read here, where a unigram model is, as Marian's are")
    return model


def _normalizer(spec: Any) -> Any:
    charsmap = [normalizers.Precompiled(spec.precompiled_charsmap)] if spec.precompiled_charsmap else []
    return normalizers.Sequence([*charsmap, normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")])
