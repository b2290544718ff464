"""`protoformer generate RUN_OR_WEIGHTS --prompt ...`: a decoder goes on with texts, on the terminal or into a file."""

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from protoformer import hub
from protoformer.atomic import write_text
from protoformer.decoding.beam import Beam
from protoformer.decoding.sampling import Choosing, Words
from protoformer.decoding.text_generator import Completion, Writer
from protoformer.errors import ConfigurationError, DataError, WeightsError
from protoformer.models import weights
from protoformer.models.decoder import Decoder
from protoformer.models.gpt import gpt
from protoformer.models.hf.gpt import Gpt2Weights, GptWeights
from protoformer.text.templates import GptFormat
from protoformer.text.tokenizer_files import read_tokenizer
from protoformer.text.tokenizers import Tokenizer

LAYOUTS = (GptWeights, Gpt2Weights)
SPARE = 512  # rows of an embedding that may have no token: vocabularies are rounded up
WORD_EVERY = 5.0  # seconds between two words on how far it is


@dataclass(frozen=True)
class Request:
    """What is asked for: prompts, how to go on with them, and where to."""

    prompts: Sequence[str] = ()
    file: str | None = None
    out: str | None = None
    max_new: int = 64
    samples: int = 1
    stop: Sequence[str] = ()
    seed: int = 0
    batch_size: int = 16
    choosing: Choosing = field(default_factory=Choosing)
    beam: Beam | None = None
    device: str | None = None


def load_decoder(where: str | Path) -> Writer:
    """A run folder whose model is a decoder, a Hugging Face folder of GPT's or GPT-2's layout, or such a repository's name.

    Raises RunFolderError or WeightsError, in one line, where there is none.
    """
    folder = Path(where).expanduser()
    if (folder / "checkpoints").is_dir() or (folder / "config.yaml").exists():
        return _of_run(folder)
    folder = hub.folder_of(str(where))
    config = weights.read_config(folder)
    layout = next((one() for one in LAYOUTS if one.model_type == config.get("model_type")), None)
    if layout is None:
        known = ", ".join(one.model_type for one in LAYOUTS)
        raise WeightsError(f"{where} is {config.get('model_type')!r}, no decoder that is known here ({known})")
    model = gpt(**layout.sizes(config))
    weights.put(model, layout.read(weights.read_state(folder))[0], str(where))
    return _writer(model, read_tokenizer(folder), where)


def _of_run(folder: Path) -> Writer:
    from protoformer.inference.load import load

    run = load(folder)
    backbone = run.model.backbone
    if not isinstance(backbone, Decoder):
        raise WeightsError(
            f"{folder}: its model ({run.config['choices']['model']}) reads a text whole and goes on with none; a decoder does"
        )
    return _writer(backbone, run.tokenizer, folder)


def _writer(model: Decoder, tokenizer: Tokenizer, where: str | Path) -> Writer:
    rows = model.embeddings.token.num_embeddings
    if not rows - SPARE <= tokenizer.vocab_size <= rows:
        raise WeightsError(
            f"{where}: {tokenizer.origin} has {tokenizer.vocab_size} tokens, the weights {rows}: they do not belong together"
        )
    format = GptFormat(tokenizer)
    return Writer(model, tokenizer, [id for id in dict.fromkeys((format.end, format.last)) if id < rows])


def main(where: str, request: Request) -> None:
    """Write to the terminal as it is made, or each prompt's completions to a file, a line each, in order."""
    prompts = _prompts(request)
    if request.out and not Path(request.out).expanduser().parent.is_dir():
        raise ConfigurationError(f"--out {request.out}: its folder is not there")
    if request.out and Path(request.out).expanduser().is_dir():
        raise ConfigurationError(f"--out {request.out}: a folder; name a file, such as {request.out}/out.jsonl")
    device = _device(request.device)
    writer = load_decoder(where)
    writer.model.to(device)
    if len(prompts) == 1 and request.beam is None and request.samples == 1 and request.out is None:
        _stream(writer, prompts[0], request)
        return
    begun, tokens = time.perf_counter(), 0
    lines: list[str] = []
    for completion in _told(_completions(writer, prompts, request), len(prompts) * _each(request)):
        tokens += len(completion.tokens)
        if request.out is None:
            print(_shown(completion), flush=True)
        lines.append(json.dumps(asdict(completion), ensure_ascii=False) + "\n")
    if request.out is not None:
        write_text(Path(request.out).expanduser(), "".join(lines))
        print(f"{request.out}: {len(lines)} completions of {len(prompts)} prompts")
    seconds = time.perf_counter() - begun
    print(f"{tokens} tokens in {seconds:.1f} s, {tokens / seconds:.1f} tokens/s", file=sys.stderr)


def _stream(writer: Writer, prompt: str, request: Request) -> None:
    print(prompt, end="", flush=True)
    how = _words(request.choosing)
    for piece in writer.stream(prompt, max_new=request.max_new, stop=request.stop, seed=request.seed, **how):
        print(piece, end="", flush=True)
    print()


def _words(choosing: Choosing) -> Words:
    return Words(**asdict(choosing))  # type: ignore[typeddict-item]


def _device(wanted: str | None) -> torch.device:
    """As asked, else a GPU where there is one. Raises ConfigurationError for one that is not there."""
    word = wanted or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=word).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ConfigurationError(f"--device {word}: not to be had ({hub.first_line(error)})") from None


def _each(request: Request) -> int:
    return request.samples if request.beam is None else request.beam.beams


def _completions(writer: Writer, prompts: Sequence[str], request: Request) -> Iterator[Completion]:
    """Of each prompt all, in order; a batch is written at a time. A further sample has a further seed."""
    if request.beam is not None:
        for prompt in prompts:
            yield from writer.search(prompt, max_new=request.max_new, beam=request.beam, stop=request.stop)
        return
    for begin in range(0, len(prompts), request.batch_size):
        part = prompts[begin : begin + request.batch_size]
        drawn = [
            writer.generate(
                part, max_new=request.max_new, stop=request.stop, seed=request.seed + sample,
                batch_size=request.batch_size, **_words(request.choosing),
            )
            for sample in range(request.samples)
        ]  # fmt: skip
        for of_prompt in zip(*drawn, strict=True):
            yield from of_prompt


def _told(completions: Iterator[Completion], expected: int) -> Iterator[Completion]:
    """The same, with a word now and then on how far it is."""
    last = time.monotonic()
    for number, completion in enumerate(completions, start=1):
        yield completion
        if time.monotonic() - last > WORD_EVERY and number < expected:
            last = time.monotonic()
            print(f"{number} of {expected}", file=sys.stderr, flush=True)


def _shown(completion: Completion) -> str:
    score = "" if completion.score is None else f"  ({completion.score:.4f})"
    return f"{completion.prompt}{completion.text}{score}\n"


def _prompts(request: Request) -> list[str]:
    """From the command line and the file: a prompt a line, or with .jsonl the key `prompt` of each line."""
    found = [*request.prompts, *(_read(Path(request.file).expanduser()) if request.file else [])]
    if not found:
        raise ConfigurationError("nothing to go on with: --prompt TEXT, or --prompts FILE")
    for number, prompt in enumerate(found):
        if not prompt.strip():
            raise ConfigurationError(f"prompt {number} is empty: there is nothing to go on with")
    if request.samples < 1 or request.batch_size < 1:
        raise ConfigurationError("--samples and --batch-size: at least 1")
    if request.samples > 1 and request.choosing.temperature == 0:
        raise ConfigurationError(f"--samples {request.samples} would all be the same: add --temperature 0.8, say")
    if request.beam is not None and (request.samples > 1 or request.choosing != Choosing()):
        raise ConfigurationError(
            "--beams looks for the likeliest text: without --samples, --temperature, --top-k, --top-p"
        )
    return found


def _read(path: Path) -> list[str]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}, byte {error.start}: not UTF-8 ({error.reason}); convert the file") from None
    lines = text.removesuffix("\n").split("\n")
    if path.suffix != ".jsonl":
        if (empty := next((n for n, line in enumerate(lines, start=1) if not line.strip()), None)) is not None:
            raise DataError(f"{path}, line {empty}: empty; a prompt a line, of something to go on with")
        return [line.removesuffix("\r") for line in lines]
    return [_prompt(path, number, line) for number, line in enumerate(lines, start=1) if line.strip()]


def _prompt(path: Path, number: int, line: str) -> str:
    try:
        found: Any = json.loads(line)
    except ValueError as error:
        raise DataError(f"{path}, line {number}: not JSON ({error})") from None
    if not isinstance(found, Mapping) or not isinstance(found.get("prompt"), str):
        raise DataError(f"{path}, line {number}: no text under the key 'prompt'")
    return str(found["prompt"])
