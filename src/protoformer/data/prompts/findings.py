"""What is doubtful about prompts: choices that cannot be told apart, merged boundaries, answers that stand in the prompt."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from protoformer.data.examples.columns import check_columns
from protoformer.data.prompts.datamodule import InContextDataModule
from protoformer.data.prompts.earlier import with_earlier
from protoformer.data.prompts.examples import PromptExample
from protoformer.data.prompts.reader import PromptReader
from protoformer.data.prompts.table import Prompt
from protoformer.data.sources.source import RawTable, Role
from protoformer.errors import DataError
from protoformer.text.prompts.pairs import EncodedPair
from protoformer.text.prompts.template import Template

FRACTION, ENOUGH = 0.8, 5  # of the rows that name their right choice in the prompt, and rows to judge that by


@dataclass(frozen=True)
class Finding:
    """Something doubtful. `row` counts from 0; None: it is true of the task."""

    row: int | None
    text: str


@dataclass(frozen=True)
class CheckedPrompts:
    """Encoded prompts, and what is doubtful about them."""

    prompts: Sequence[tuple[Prompt, Sequence[EncodedPair]]]
    findings: Sequence[Finding] = field(default_factory=list)

    @property
    def tokens(self) -> float:
        """The mean length of a prompt with its first choice."""
        return sum(len(pairs[0].ids) for _, pairs in self.prompts) / max(1, len(self.prompts))

    @property
    def choices(self) -> range:
        """The smallest number of choices, up to the largest."""
        counts = [len(prompt.example.completions) for prompt, _ in self.prompts] or [0]
        return range(min(counts), max(counts) + 1)


def check(data: InContextDataModule, raw: RawTable, role: Role) -> CheckedPrompts:
    """The prompts of these rows under the first draw of shots. Raises DataError for a missing column; an unusable row is a
    finding."""
    reader = data.prompt_reader
    check_columns(raw, [*reader.columns(), *([reader.label] if reader.has_label else [])], reader)
    examples: list[PromptExample] = []
    findings = [Finding(None, text) for text in _leaks_of_templates(reader)]
    for row in range(raw.table.num_rows):
        try:
            read = reader.read(raw.take([row]), "train" if role == "train" else "validation").examples
        except DataError as error:
            findings.append(Finding(row, _without_location(str(error))))
        else:
            if reader.earlier is not None:
                rows = with_earlier(raw, [row], str(reader.group))
                read = [
                    each for each in reader.read(raw.take(rows), "train", "skip").examples if each.row == len(rows) - 1
                ]
            examples += [replace(each, row=row) for each in read]
    prompts = next(iter(data.prompts(raw, examples))) if examples else []
    for prompt, pairs in prompts:
        findings += [Finding(prompt.example.row, text) for text in _of_prompt(prompt, pairs, data.max_len)]
    findings += [Finding(None, text) for text in _named_right_choices(examples)]
    return CheckedPrompts(prompts, findings)


def _without_location(message: str) -> str:
    """What is wrong with a row, without its file, its number, and the advice to skip it."""
    message = message.partition("; task.data.on_bad_row")[0]
    _, marker, rest = message.partition(", column ")
    return f"column {rest}" if marker else message


def _of_prompt(prompt: Prompt, pairs: Sequence[EncodedPair], max_len: int) -> Iterator[str]:
    example = prompt.example
    yield from _alike(example)
    for pair, completion in zip(pairs, example.completions, strict=True):
        if pair.merged:
            yield f"a token crosses the boundary from the prompt to {completion!r}"
    right = example.completions[example.gold].strip().lower()
    if len(set(example.contexts)) == 1 and example.contexts[0].rstrip().lower().endswith(right):
        yield f"the prompt ends in its answer, {right!r}"
    if any(shot.startswith(example.contexts[0]) for shot in prompt.shots):
        yield "the question stands among its shots, with its answer"
    if prompt.used < len(prompt.shots):
        yield f"{len(prompt.shots) - prompt.used} of {len(prompt.shots)} shots are left out: the model reads {max_len} tokens"
    if prompt.truncated:
        yield f"the prompt loses its beginning: the model reads {max_len} tokens"


def _alike(example: PromptExample) -> Iterator[str]:
    """Choices of one context of which one begins another: the shorter one is at least as probable, whatever the model."""
    for first, (context, text) in enumerate(zip(example.contexts, example.completions, strict=True)):
        for second, (other_context, other) in enumerate(zip(example.contexts, example.completions, strict=True)):
            if context != other_context or first == second or not other.startswith(text):
                continue
            if text == other:
                if first < second:
                    yield f"choices {first + 1} and {second + 1} are equal: {text!r}"
            else:
                yield f"choice {first + 1} is a prefix of choice {second + 1}: {text!r}, {other!r}"


def _leaks_of_templates(reader: PromptReader) -> Iterator[str]:
    """Contexts that read what names the right answer."""
    columns = {name for text in reader.contexts or [reader.context] for name in Template(text).columns}
    secret = {reader.label} if reader.has_label else set()
    secret |= {"answer"} if reader.answers is not None else set()
    for name in sorted(columns & secret):
        yield f"the context shows the answer: it reads the field {name!r}"


def _named_right_choices(examples: Sequence[PromptExample]) -> Iterator[str]:
    """Prompts that name the right choice and no other, in nearly all rows."""
    chosen = [each for each in examples if len(each.completions) > 1 and len(set(each.contexts)) == 1]
    if len(chosen) < ENOUGH:
        return
    named = 0
    for example in chosen:
        context = example.contexts[0].lower()
        inside = [text.strip().lower() in context for text in example.completions]
        named += inside[example.gold] and sum(inside) == 1
    if named >= FRACTION * len(chosen):
        yield f"{named} of {len(chosen)} prompts name the right choice and no other"
