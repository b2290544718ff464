"""`protoformer translate`: lines of text translated by a trained run, one line each, in order.

Lines are read in chunks. Within a chunk, lines of similar length are translated in one batch.
"""

import contextlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO, NamedTuple, TextIO

import numpy as np
import torch

from protoformer.assembly.instantiate import instantiate
from protoformer.decoding.beam import BeamParams
from protoformer.decoding.seq2seq import Seq2SeqParams, batches_by_length, generate_targets
from protoformer.distributed.memory import LESS_MEMORY, batch_advice, memory_advice
from protoformer.errors import ConfigurationError, DataError
from protoformer.inference.files.partial import partial_file
from protoformer.inference.files.progress import Progress, counted
from protoformer.inference.files.rows import text_lines
from protoformer.inference.load import LoadedRun, load
from protoformer.inference.opening.digest import model_digest
from protoformer.models.encoder_decoder import EncoderDecoder
from protoformer.runs.digests import file_digest
from protoformer.scoring.bleu import bleu
from protoformer.scoring.chrf import chrf

CHUNK = 256  # lines read at a time; from a terminal each line is translated at once
BATCH_TOKENS = 4000  # source tokens of a batch, with padding


@dataclass(frozen=True)
class TranslationRequest:
    """The file to read and the file to write (None: standard input and output), and the options of beam search."""

    file: str | None = None
    out: str | None = None
    beams: int = 4
    alpha: float = 0.6
    max_extra_tokens: int = 50
    n_best: int | None = None
    batch_tokens: int = BATCH_TOKENS
    texts: Sequence[str] = ()  # in place of a file
    reference: str | None = None  # a file of translations that the output is scored against


class ScoredText(NamedTuple):
    """A translation, and its log-probability divided by the length penalty."""

    text: str
    score: float


def main(run: str, request: TranslationRequest) -> None:
    """Translate all lines. Raises a one-line error for a run that is no translation run, and for invalid options."""
    references = None if request.reference is None else _lines_of(Path(request.reference))
    opened = load(run)
    command = _command(opened, request) if request.out else None
    translator = Translator(opened, request)
    hypotheses: list[str] = []
    with contextlib.ExitStack() as stack:
        source: BinaryIO = stack.enter_context(Path(request.file).open("rb")) if request.file else sys.stdin.buffer
        target, earlier = sys.stdout, []
        if request.out:
            partial = stack.enter_context(partial_file(Path(request.out), command))
            target, earlier = partial.file, partial.earlier
            hypotheses += earlier
        # a line break within a text would be a line of its own
        texts = iter([" ".join(text.split()) for text in request.texts]) if request.texts else decoded(source)
        done = sum(1 for _ in islice(texts, len(earlier)))
        if done:
            print(f"{request.out}: {counted(done, 'line')} are there, continuing", file=sys.stderr)
        progress = Progress("line", already=done)
        try:
            chunk = 1 if source.isatty() else CHUNK
            for index, translations in enumerate(translator.translate(texts, chunk, done), start=done):
                target.write("".join(f"{line}\n" for line in output_lines(index, translations, request.n_best)))
                target.flush()
                if references is not None:
                    hypotheses.append(translations[0].text)
                progress.update(index + 1)
        finally:
            progress.close()
    if translator.truncated:
        shown = ", ".join(map(str, translator.truncated[:8]))
        count = counted(len(translator.truncated), "line")
        print(f"{count} truncated to {translator.max_source_tokens} tokens: {shown}", file=sys.stderr)
    if references is not None:
        print_scores(hypotheses, references, translator.language, sys.stdout if request.out else sys.stderr)


def _command(run: LoadedRun, request: TranslationRequest) -> str | None:
    """All that decides the lines of the output; None where the same command may read something else (standard input), or
    several lines belong to one."""
    if request.file is None or request.n_best is not None:
        return None
    options = (request.beams, request.alpha, request.max_extra_tokens)
    return repr((model_digest(run), file_digest(Path(request.file)), options))


def _lines_of(path: Path) -> list[str]:
    with path.open("rb") as file:
        return list(decoded(file, f"{path}, "))


def print_scores(hypotheses: Sequence[str], references: Sequence[str], language: str | None, stream: TextIO) -> None:
    """Print BLEU and chrF with their signatures. Raises DataError where the numbers of lines differ."""
    if len(hypotheses) != len(references) or not references:
        raise DataError(
            f"{counted(len(hypotheses), 'translation')} and {counted(len(references), 'reference')}: each line of the "
            "file needs one, and there must be at least one"
        )
    for name, score in (
        ("BLEU", bleu(hypotheses, references, language=language)),
        ("chrF", chrf(hypotheses, references)),
    ):
        print(f"{name} {score.score:.2f}  {score.signature}", file=stream)


def output_lines(index: int, translations: list[ScoredText], n_best: int | None) -> Iterator[str]:
    """The best translation; or up to `n_best`, as `index ||| text ||| score` (Moses' n-best template, lines from 0)."""
    if n_best is None:
        yield translations[0].text
        return
    for translation in translations[:n_best]:
        yield f"{index} ||| {translation.text} ||| {translation.score:.4f}"


def decoded(source: Iterable[bytes], name: str = "") -> Iterator[str]:
    """Lines of UTF-8, ended by line feeds alone, without a byte-order mark. Raises DataError with the line's number."""
    for number, text, problem in text_lines(source):
        if problem is not None:
            raise DataError(f"{name}line {number}: {problem}; convert the text")
        yield text


class Translator:
    """A translation run's model, tokenizer and template, on a GPU where there is one.

    `truncated` collects the numbers, from 1, of lines that are longer than the run's longest source.
    """

    def __init__(self, run: LoadedRun, request: TranslationRequest) -> None:
        backbone = run.model.backbone
        if not isinstance(backbone, EncoderDecoder):
            other = run.model.other_command or "; protoformer predict answers for it"
            raise ConfigurationError(f"a run of kind {run.config['task']['kind']} does not translate{other}")
        if request.n_best is not None and not 1 <= request.n_best <= request.beams:
            raise ConfigurationError(f"--n-best {request.n_best}: from 1 to the number of beams ({request.beams})")
        if request.batch_tokens < 1:
            raise ConfigurationError(f"--batch-tokens {request.batch_tokens}: at least 1")
        self.batch_tokens = request.batch_tokens
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = backbone.to(self.device)
        self.tokenizer = run.tokenizer
        self.template = instantiate(run.config, "model.template", tokenizer=run.tokenizer)
        beam = BeamParams(num_beams=request.beams, length_penalty="gnmt", alpha=request.alpha)
        self.params = Seq2SeqParams(
            self.template.bos_id,
            self.template.eos_id,
            self.template.never_generated(self.model.target_vocab_size),
            beam,
            request.max_extra_tokens,
        )
        self.max_source_tokens = min(run.config["task"]["max_len"], self.model.max_seq_len)
        self.truncated: list[int] = []
        self.language: str | None = (run.config["task"].get("rows") or {}).get("target")

    def translate(self, texts: Iterable[str], chunk: int = CHUNK, count: int = 0) -> Iterator[list[ScoredText]]:
        """The translations of each text, the best first, in the order of the texts. An empty text is its own translation.

        `count` is the number, from 0, of the first text in its file.
        """
        stream = iter(texts)
        while lines := list(islice(stream, chunk)):
            yield from self.translate_chunk(lines, count)
            count += len(lines)

    def translate_chunk(self, texts: list[str], first_index: int = 0) -> list[list[ScoredText]]:
        """The translations of these texts, the first of which is line `first_index` (from 0) of the input."""
        encoded = self.tokenizer.encode(texts)
        self.truncated += [
            first_index + number for number, ids in enumerate(encoded, start=1) if len(ids) >= self.max_source_tokens
        ]
        results = [[ScoredText("", 0.0)] for _ in texts]
        non_empty = [index for index, text in enumerate(texts) if text.strip()]
        lengths = [len(encoded[index]) + 1 for index in non_empty]
        for batch in batches_by_length(lengths, self.batch_tokens):
            indices = [non_empty[number] for number in batch]
            with memory_advice(self._memory_advice):
                translations = self._translate_batch([encoded[index] for index in indices])
            for index, candidates in zip(indices, translations, strict=True):
                results[index] = candidates
        return results

    def _memory_advice(self) -> str:
        fewer = f"fewer beams than --beams {self.params.beam.num_beams}, {LESS_MEMORY}"
        return batch_advice(self.batch_tokens, "source tokens", "--batch-tokens ", self.max_source_tokens, fewer)

    def _translate_batch(self, sources: list[list[int]]) -> list[list[ScoredText]]:
        flat, offsets = self.template.with_eos(sources, self.max_source_tokens)
        lengths = np.diff(offsets)
        mask = np.arange(lengths.max()) < lengths[:, None]
        ids = np.full(mask.shape, self.template.pad_id, dtype=np.int64)  # (batch, longest)
        ids[mask] = flat
        source_ids, source_mask = (torch.from_numpy(array).to(self.device) for array in (ids, mask))
        return [
            [ScoredText(self._text(hypothesis.tokens), hypothesis.score) for hypothesis in hypotheses]
            or [ScoredText("", -float("inf"))]
            for hypotheses in generate_targets(self.model, source_ids, source_mask, self.params)
        ]

    def _text(self, tokens: list[int]) -> str:
        """A translation in one line, whatever the tokens are."""
        text = self.tokenizer.decode([token for token in tokens if token != self.template.eos_id])
        return " ".join(text.split())
