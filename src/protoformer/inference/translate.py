"""`protoformer translate RUN`: what a trained model makes of lines of text, each on a line of its own, in their order.

Lines are read in chunks; in a chunk, lines of like length are translated together.
"""

import contextlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO, NamedTuple, TextIO

import numpy as np
import torch

from protoformer.assembly.instantiate import instantiate
from protoformer.atomic import replace_atomically
from protoformer.decoding.beam import Beam
from protoformer.decoding.seq2seq import Writing, batches, write
from protoformer.errors import ConfigurationError, DataError
from protoformer.inference.load import LoadedRun, load
from protoformer.modules.translation import TranslationModule

CHUNK = 256  # lines; a person who types gets each one at once
TOKENS = 4000  # of the sources that are translated together
EVERY = 5.0  # seconds between two words on how far it got


@dataclass(frozen=True)
class Options:
    """Where lines come from and go to (None: standard input and output), and how they are translated."""

    file: str | None = None
    out: str | None = None
    beams: int = 4
    alpha: float = 0.6
    extra: int = 50
    n_best: int | None = None


class Way(NamedTuple):
    """A translation, and its log-probability over the penalty for its length."""

    text: str
    score: float


def main(run: str, options: Options) -> None:
    """Translate everything. Raises a one-line error for a run that translates nothing, and for what cannot be asked."""
    translator = Translator(load(run), options)
    with contextlib.ExitStack() as held:
        source: BinaryIO = held.enter_context(Path(options.file).open("rb")) if options.file else sys.stdin.buffer
        target: TextIO = held.enter_context(written_whole(Path(options.out))) if options.out else sys.stdout
        told = progress(sys.stderr)
        for number, ways in enumerate(translator.all(decoded(source), 1 if source.isatty() else CHUNK)):
            target.write("".join(f"{line}\n" for line in lines(number, ways, options.n_best)))
            target.flush()
            told(number + 1)
    if translator.cut:
        shown = ", ".join(map(str, translator.cut[:8]))
        print(f"{counted(len(translator.cut), 'line')} cut to {translator.longest} tokens: {shown}", file=sys.stderr)


@contextlib.contextmanager
def written_whole(place: Path) -> Iterator[TextIO]:
    """A file that takes its place once all is written; until then, and where that fails, what lay there stays."""
    if place.is_dir():
        raise ConfigurationError(f"--out {place}: a folder; name a file in it")
    if place.exists() and not place.is_file():  # a pipe or a device
        with place.open("w", encoding="utf-8") as file:
            yield file
        return
    with replace_atomically(place) as tmp, tmp.open("w", encoding="utf-8") as file:
        yield file


def counted(number: int, what: str) -> str:
    return f"{number:,} {what}" + "s" * (number != 1)


def lines(number: int, ways: list[Way], n_best: int | None) -> Iterator[str]:
    """The best way alone; or up to `n_best`, as `number ||| text ||| score`, in Moses' form, which counts lines from 0."""
    if n_best is None:
        yield ways[0].text
        return
    for way in ways[:n_best]:
        yield f"{number} ||| {way.text} ||| {way.score:.4f}"


def decoded(source: Iterable[bytes]) -> Iterator[str]:
    """Lines of UTF-8, which end at line feeds alone; a byte-order mark before the first is none of it."""
    for number, line in enumerate(source, start=1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise DataError(f"line {number}: not UTF-8 ({error.reason}); convert the text") from None


class Translator:
    """A run's model with its vocabulary and format; on a GPU where there is one. `cut` collects the numbers, from 1, of lines
    that are longer than the run's longest source."""

    def __init__(self, run: LoadedRun, options: Options) -> None:
        if not isinstance(run.model, TranslationModule):
            raise ConfigurationError(f"a run of kind {run.config['task']['kind']} translates nothing")
        if options.n_best is not None and not 1 <= options.n_best <= options.beams:
            raise ConfigurationError(f"--n-best {options.n_best}: from 1 to the number of beams ({options.beams})")
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = run.model.backbone.to(self.device)
        self.tokenizer = run.tokenizer
        self.format = instantiate(run.config["model"]["format"], _partial_=True)(run.tokenizer)
        beam = Beam(beams=options.beams, length_penalty="gnmt", alpha=options.alpha)
        self.writing = Writing(self.format.start, self.format.end, self.format.never, beam, options.extra)
        self.longest = min(run.config["task"]["max_len"], self.model.max_seq_len)
        self.cut: list[int] = []

    def all(self, texts: Iterable[str], chunk: int = CHUNK) -> Iterator[list[Way]]:
        """The ways of each text, the best first, in the order of the texts. An empty text is its own translation."""
        stream, read = iter(texts), 0
        while some := list(islice(stream, chunk)):
            yield from self.chunk(some, read)
            read += len(some)

    def chunk(self, texts: list[str], before: int = 0) -> list[list[Way]]:
        """These texts; `before` as many have been translated already."""
        encoded = self.tokenizer.encode(texts)
        self.cut += [before + place for place, ids in enumerate(encoded, start=1) if len(ids) >= self.longest]
        found = [[Way("", 0.0)] for _ in texts]
        full = [place for place, text in enumerate(texts) if text.strip()]
        lengths = [len(encoded[place]) + 1 for place in full]
        for batch in batches(lengths, TOKENS):
            places = [full[number] for number in batch]
            for place, ways in zip(places, self._translated([encoded[place] for place in places]), strict=True):
                found[place] = ways
        return found

    def _translated(self, sources: list[list[int]]) -> list[list[Way]]:
        flat, offsets = self.format.closed(sources, self.longest)
        lengths = np.diff(offsets)
        mask = np.arange(lengths.max()) < lengths[:, None]
        ids = np.full(mask.shape, self.format.pad_id, dtype=np.int64)
        ids[mask] = flat
        given, real = (torch.from_numpy(array).to(self.device) for array in (ids, mask))
        return [
            [Way(self._text(way.tokens), way.score) for way in ways] or [Way("", -float("inf"))]
            for ways in write(self.model, given, real, self.writing)
        ]

    def _text(self, tokens: list[int]) -> str:
        """In one line, whatever the tokens hold."""
        words = self.tokenizer.decode([token for token in tokens if token != self.format.end])
        return " ".join(words.split())


def progress(stream: TextIO) -> Callable[[int], None]:
    """Says now and then how many lines are done."""
    begun = last = time.monotonic()

    def told(count: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= EVERY:
            last = now
            print(f"{counted(count, 'line')}, {count / (now - begun):.1f} a second", file=stream, flush=True)

    return told
