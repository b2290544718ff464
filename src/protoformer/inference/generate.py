"""`protoformer generate`: completions of prompts by a decoder, on the terminal or into a file."""

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from protoformer import hub
from protoformer.assembly.instantiate import instantiate
from protoformer.atomic import write_text
from protoformer.config.groups import required_template_method
from protoformer.data.examples.columns import BadRows, text_column
from protoformer.data.sources.readers import read_table
from protoformer.data.sources.source import RawTable
from protoformer.decoding.beam import BeamParams
from protoformer.decoding.sampling import SamplingOptions, SamplingParams
from protoformer.decoding.text_generator import Completion, TextGenerator
from protoformer.distributed.memory import LESS_MEMORY, batch_advice, memory_advice
from protoformer.errors import ConfigurationError, DataError, WeightsError
from protoformer.inference.load import load
from protoformer.inference.opening.backbone import end_ids, open_backbone
from protoformer.models.decoder import Decoder
from protoformer.text.tokenizers import Tokenizer, valid_unicode

MAX_UNUSED_ROWS = 512  # of an embedding: vocabularies are rounded up
TABLES = (".csv", ".tsv", ".json", ".parquet")  # files of prompts with named columns
PROMPT_COLUMNS = ("prompt", "text")
PROGRESS_INTERVAL = 5.0  # seconds


@dataclass(frozen=True)
class GenerationRequest:
    """Prompts (texts, and a file of texts), how they are completed, and the file that completions are written to.

    `beam` None samples with `sampling`; `samples` is then the number of completions of each prompt.
    """

    prompts: Sequence[str] = ()
    file: str | None = None
    out: str | None = None
    max_new_tokens: int = 64
    samples: int = 1
    stop: Sequence[str] = ()
    seed: int = 0
    batch_size: int = 16
    sampling: SamplingParams = field(default_factory=SamplingParams)
    beam: BeamParams | None = None
    device: str | None = None


def load_decoder(source: str | Path) -> TextGenerator:
    """A run folder whose model is a decoder, a Hugging Face folder of GPT's or GPT-2's layout, or such a repository's name.

    Raises RunFolderError or WeightsError, in one line, where there is none.
    """
    folder = Path(source).expanduser()
    if (folder / "checkpoints").is_dir() or (folder / "config.yaml").exists():
        return _of_run(folder)
    folder = hub.resolve_folder(str(source))
    opened = open_backbone(folder, ("decoder",))
    assert isinstance(opened.model, Decoder)  # as its architecture says
    _check_match(opened.model, opened.tokenizer, source)
    return TextGenerator(opened.model, opened.tokenizer, end_ids(folder, opened))


def _of_run(folder: Path) -> TextGenerator:
    run = load(folder)
    backbone = run.model.backbone
    if not isinstance(backbone, Decoder):
        raise WeightsError(
            f"{folder}: its model ({run.config['choices']['model']}) is not a decoder, and only decoders generate text"
            + (run.model.other_command or "; protoformer predict answers for it")
        )
    _check_match(backbone, run.tokenizer, folder)
    template = instantiate(run.config, "model.template", tokenizer=run.tokenizer)
    ends = [getattr(template, "end_of_text_id", template.eos_id)]
    if required_template_method(run.config["task"]["data"]["_target_"]) != "document_end_id":
        ends.append(template.eos_id)  # its texts end in it
    rows = backbone.embeddings.token.num_embeddings
    return TextGenerator(backbone, run.tokenizer, [token for token in dict.fromkeys(ends) if token < rows])


def _check_match(model: Decoder, tokenizer: Tokenizer, source: str | Path) -> None:
    rows = model.embeddings.token.num_embeddings
    if not rows - MAX_UNUSED_ROWS <= tokenizer.vocab_size <= rows:
        raise WeightsError(
            f"{source}: {tokenizer.origin} has {tokenizer.vocab_size} tokens, the weights {rows}: they do not match"
        )


def main(source: str, request: GenerationRequest) -> None:
    """Complete the prompts, and print the completions or write them to a file, one JSON object a line, in order."""
    prompts = _prompts(request)
    if request.out and not Path(request.out).expanduser().parent.is_dir():
        raise ConfigurationError(f"--out {request.out}: its folder does not exist")
    if request.out and Path(request.out).expanduser().is_dir():
        raise ConfigurationError(f"--out {request.out}: a folder; name a file, such as {request.out}/out.jsonl")
    device = _device(request.device)
    generator = load_decoder(source)
    generator.model.to(device)
    with memory_advice(lambda: _memory_advice(len(prompts), request)):
        if len(prompts) == 1 and request.beam is None and request.samples == 1 and request.out is None:
            _stream(generator, prompts[0], request)
        else:
            _complete(generator, prompts, request)


def _memory_advice(prompts: int, request: GenerationRequest) -> str:
    fewer = f"fewer tokens than --max-new {request.max_new_tokens}, {LESS_MEMORY}"
    if request.beam is not None:
        return f"{request.beam.num_beams} beams at once; fewer --beams, {fewer}"
    return batch_advice(min(prompts, request.batch_size), "prompts", "--batch-size ", otherwise=fewer)


def _complete(generator: TextGenerator, prompts: Sequence[str], request: GenerationRequest) -> None:
    """Complete the prompts in batches, and print or write the completions."""
    start, tokens = time.perf_counter(), 0
    lines: list[str] = []
    for completion in _with_progress(
        _completions(generator, prompts, request), len(prompts) * _completions_per_prompt(request)
    ):
        tokens += len(completion.tokens)
        if request.out is None:
            print(_formatted(completion), flush=True)
        lines.append(json.dumps(asdict(completion), ensure_ascii=False) + "\n")
    if request.out is not None:
        write_text(Path(request.out).expanduser(), "".join(lines))
        print(f"{request.out}: {len(lines)} completions of {len(prompts)} prompts")
    seconds = time.perf_counter() - start
    print(f"{tokens} tokens in {seconds:.1f} s, {tokens / seconds:.1f} tokens/s", file=sys.stderr)


def _stream(generator: TextGenerator, prompt: str, request: GenerationRequest) -> None:
    print(prompt, end="", flush=True)
    options = _as_options(request.sampling)
    for piece in generator.stream(
        prompt, max_new_tokens=request.max_new_tokens, stop=request.stop, seed=request.seed, **options
    ):
        print(piece, end="", flush=True)
    print()


def _as_options(sampling: SamplingParams) -> SamplingOptions:
    return SamplingOptions(**asdict(sampling))  # type: ignore[typeddict-item]  # the same fields


def _device(requested: str | None) -> torch.device:
    """The requested device; by default a GPU, where there is one. Raises ConfigurationError for one that is not available."""
    name = requested or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ConfigurationError(f"--device {name}: not available ({hub.first_line(error)})") from None


def _completions_per_prompt(request: GenerationRequest) -> int:
    return request.samples if request.beam is None else request.beam.num_beams


def _completions(generator: TextGenerator, prompts: Sequence[str], request: GenerationRequest) -> Iterator[Completion]:
    """All completions of each prompt, in order. Sample i of a prompt has the seed `seed + i`."""
    if request.beam is not None:
        for prompt in prompts:
            yield from generator.beam_search(
                prompt, max_new_tokens=request.max_new_tokens, params=request.beam, stop=request.stop
            )
        return
    for start in range(0, len(prompts), request.batch_size):
        batch = prompts[start : start + request.batch_size]
        sampled = [
            generator.generate(
                batch, max_new_tokens=request.max_new_tokens, stop=request.stop, seed=request.seed + sample,
                batch_size=request.batch_size, **_as_options(request.sampling),
            )
            for sample in range(request.samples)
        ]  # fmt: skip
        for of_prompt in zip(*sampled, strict=True):
            yield from of_prompt


def _with_progress(completions: Iterator[Completion], expected: int) -> Iterator[Completion]:
    """The same completions; how many there are so far is printed from time to time."""
    last = time.monotonic()
    for number, completion in enumerate(completions, start=1):
        yield completion
        if time.monotonic() - last > PROGRESS_INTERVAL and number < expected:
            last = time.monotonic()
            print(f"{number} of {expected}", file=sys.stderr, flush=True)


def _formatted(completion: Completion) -> str:
    score = "" if completion.score is None else f"  ({completion.score:.4f})"
    return f"{completion.prompt}{completion.text}{score}\n"


def _prompts(request: GenerationRequest) -> list[str]:
    """From the command line and the file: a prompt a line, with .jsonl the key `prompt` of each line, of a table its column."""
    prompts = [*request.prompts, *(_read(Path(request.file).expanduser()) if request.file else [])]
    if not prompts and sys.stdin is not None and not sys.stdin.isatty():
        prompts = _prompt_lines(sys.stdin.buffer.read(), "standard input")
    prompts = [valid_unicode(prompt) for prompt in prompts]
    if not prompts:
        raise ConfigurationError(
            'nothing to complete: give --prompt TEXT ("": from nothing), --prompts FILE, or lines on standard input'
        )
    for index, prompt in enumerate(prompts):
        if prompt and not prompt.strip():
            raise ConfigurationError(f"prompt {index + 1} is empty: there is nothing to continue")
    if request.samples < 1 or request.batch_size < 1:
        raise ConfigurationError("--samples and --batch-size: at least 1")
    if request.samples > 1 and request.sampling.temperature == 0:
        raise ConfigurationError(
            f"--samples {request.samples} would all be the same: add, for example, --temperature 0.8"
        )
    if request.beam is not None and (request.samples > 1 or request.sampling != SamplingParams()):
        raise ConfigurationError(
            "--beams searches for the most probable text: without --samples, --temperature, --top-k, --top-p"
        )
    return prompts


def _read(path: Path) -> list[str]:
    if path.suffix in TABLES:
        return _of_table(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    if path.suffix != ".jsonl":
        prompts = _prompt_lines(content, str(path))
        if (empty := next((n for n, line in enumerate(prompts, start=1) if not line.strip()), None)) is not None:
            raise DataError(f"{path}, line {empty}: empty; give one non-empty prompt per line")
        return prompts
    lines = _decoded(content, str(path)).removesuffix("\n").split("\n")
    return [_prompt(path, number, line) for number, line in enumerate(lines, start=1) if line.strip()]


def _of_table(path: Path) -> list[str]:
    """The column `prompt`, or else `text`. Raises DataError for a table without them, and for an empty prompt."""
    file = read_table(path)
    name = next((each for each in PROMPT_COLUMNS if each in file.table.column_names), None)
    if name is None:
        raise DataError(f"{path}: no column {' or '.join(PROMPT_COLUMNS)}; it has {', '.join(file.table.column_names)}")
    raw = RawTable(file.table, str(path), "", [file], broken=file.broken)
    return text_column(raw, name, BadRows(raw, "error", skippable=False))


def _prompt_lines(content: bytes, name: str) -> list[str]:
    """A prompt a line."""
    text = _decoded(content, name).removesuffix("\n")
    return [line.removesuffix("\r") for line in text.split("\n")] if text else []


def _decoded(content: bytes, name: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{name}, byte {error.start}: not UTF-8 ({error.reason}); convert the text") from None


def _prompt(path: Path, number: int, line: str) -> str:
    try:
        row: Any = json.loads(line)
    except ValueError as error:
        raise DataError(f"{path}, line {number}: not JSON ({error})") from None
    if not isinstance(row, Mapping) or not isinstance(row.get("prompt"), str):
        raise DataError(f"{path}, line {number}: no text under the key 'prompt'")
    return str(row["prompt"])
