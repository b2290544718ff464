"""`protoformer predict RUN --text ...`: what a trained run says of a text, printed as a small table.

A pretraining run fills in each [MASK]; a classifier gives its labels, a span model answers a question from a context, and a
multiple-choice model orders its choices.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from protoformer.errors import ConfigurationError
from protoformer.inference.load import LoadedRun, load

SPECIAL_WORD = "[MASK]"


@dataclass(frozen=True)
class Question:
    """What is asked of a run: a text, and beside it what the kind of task wants."""

    text: str
    pair: str | None = None  # the second text of a pair, or the context of a question
    choices: Sequence[str] = ()
    top: int = 5


@dataclass(frozen=True)
class Guess:
    """Something that the model may say, and how likely it finds it (a regressor: the number alone)."""

    text: str
    probability: float | None = None


def main(run: str, question: Question) -> None:
    """Print the guesses, the likeliest first. Raises a one-line error for a text that the run's kind cannot use."""
    for title, guesses in predict(load(run), question):
        print(title)
        for guess in guesses:
            print(f"  {guess.text}" if guess.probability is None else f"  {guess.probability:7.2%}  {guess.text}")


def predict(run: LoadedRun, question: Question) -> list[tuple[str, list[Guess]]]:
    """Guesses under the title of what each list is about."""
    kind = run.config["task"]["kind"]
    if kind not in KINDS:
        raise ConfigurationError(
            f"a run of kind {kind} predicts nothing from a text; kinds that do: {', '.join(KINDS)}"
        )
    if question.top < 1:
        raise ConfigurationError(f"--top {question.top}: at least 1")
    if question.choices and kind != "multiple_choice":
        raise ConfigurationError(f"--choice: a run of kind {kind} has nothing to choose between")
    for option, texts in (("--text", [question.text]), ("--pair", [question.pair]), ("--choice", question.choices)):
        if any(text is not None and not text.strip() for text in texts):
            raise ConfigurationError(f"{option} is empty; write the text after it, in quotes")
    with torch.no_grad():
        return KINDS[kind](run, question)


def _batch(run: LoadedRun, a: Sequence[str], b: Sequence[str] | None) -> dict[str, torch.Tensor]:
    """Texts or pairs as a batch, as the run's own data were written."""
    from protoformer.data.batching.padding import padded
    from protoformer.data.cache import Table

    format = _format(run)
    written = format.texts(
        run.tokenizer.encode(list(a)), None if b is None else run.tokenizer.encode(list(b)), _longest(run)
    )
    count = len(written.offsets) - 1
    table = Table(np.asarray(written.ids), written.segment_ids, written.offsets)
    return {
        **padded(table, range(count), format.pad_id),  # type: ignore[dict-item]
        "pooler_position": torch.from_numpy(written.pooler_position.astype(np.int64)),
        "example_ids": torch.arange(count),
    }


def _format(run: LoadedRun) -> Any:
    from protoformer.assembly.instantiate import instantiate

    return instantiate(run.config, "model.format", tokenizer=run.tokenizer)


def _longest(run: LoadedRun) -> int:
    return min(run.config["task"]["max_len"], run.model.backbone.max_seq_len)


def _ranked(names: Sequence[str], logits: torch.Tensor, top: int) -> list[Guess]:
    shares, places = logits.softmax(-1).topk(min(top, len(names)))
    return [Guess(names[place], share) for share, place in zip(shares.tolist(), places.tolist(), strict=True)]


def _fill_mask(run: LoadedRun, question: Question) -> list[tuple[str, list[Guess]]]:
    module: Any = run.model
    batch = _batch(run, [question.text], None if question.pair is None else [question.pair])
    ids = batch["ids"][0]
    places = (ids == run.tokenizer.id(SPECIAL_WORD)).nonzero()[:, 0].tolist()
    if module.backbone.causal:  # told from the left: what comes after the text
        places = [len(ids) - 2]
    if not places:
        raise ConfigurationError(
            f"there is no {SPECIAL_WORD} in {question.text!r} (or it was cut off): write one where a word lacks"
        )
    batch["target_position"] = torch.tensor([places])
    batch["target_ids"] = torch.zeros_like(batch["target_position"])
    told = module(batch)
    found = []
    for number, logits in enumerate(told.mlm_logits):
        shares, words = logits.softmax(-1).topk(min(question.top, len(logits)))
        title = "next" if module.backbone.causal else SPECIAL_WORD
        guesses = [
            Guess(run.tokenizer.rust.id_to_token(word) or f"id {word}", share)
            for share, word in zip(shares.tolist(), words.tolist(), strict=True)
        ]
        found.append((title if len(places) == 1 else f"{title} {number + 1}", guesses))
    return found


def _classify(run: LoadedRun, question: Question) -> list[tuple[str, list[Guess]]]:
    module: Any = run.model
    paired = run.config["task"]["rows"].get("text_b") is not None
    if paired != (question.pair is not None):
        wants = "two texts: --text A --pair B" if paired else "one text: --text A, without --pair"
        raise ConfigurationError(f"this run's task takes {wants}")
    rows, data = _data(run)
    columns = {rows.text_a: [question.text]} | ({rows.text_b: [question.pair]} if paired else {})
    (logits,) = module(data.collate(data.write(_table(columns), "test"))([0]))
    if module.labels is None:
        return [("value", [Guess(f"{float(logits[0]):.4f}")])]
    return [("label", _ranked(module.labels, logits, question.top))]


def _choose(run: LoadedRun, question: Question) -> list[tuple[str, list[Guess]]]:
    module: Any = run.model
    if len(question.choices) < 2 or question.pair is not None:
        raise ConfigurationError(
            "this run's task chooses between ways to go on: --text A --choice B --choice C ..., without --pair"
        )
    batch = _batch(run, [question.text] * len(question.choices), question.choices)
    shaped = {name: tensor[None] for name, tensor in batch.items() if name != "example_ids"}
    (logits,) = module(shaped)
    return [("choice", _ranked(list(question.choices), logits, question.top))]


def _answer(run: LoadedRun, question: Question) -> list[tuple[str, list[Guess]]]:
    from protoformer.data.datamodules.span import SpanReferences
    from protoformer.modules.evaluation import gather_examples

    module: Any = run.model
    if question.pair is None:
        raise ConfigurationError("this run's task answers a question from a context: --text QUESTION --pair CONTEXT")
    rows, data = _data(run)
    raw = _table({rows.id: ["0"], rows.question: [question.text], rows.context: [question.pair]})
    table = data.write(raw, "test")
    references = SpanReferences(table, rows.read(raw, "test"))
    collate = data.collate(table)
    parts = [module.eval_step(collate(list(range(at, min(at + 8, len(table)))))) for at in range(0, len(table), 8)]
    answers = module.n_best_answers(gather_examples(parts, 1), references)["0"]
    return [("answer", [Guess(answer.text or "(no answer)", answer.probability) for answer in answers[: question.top]])]


def _data(run: LoadedRun) -> tuple[Any, Any]:
    """The run's own rows and datamodule, to write a text as its data were written."""
    from protoformer.assembly.instantiate import instantiate, instantiate_node

    rows = instantiate(run.config, "task.rows")
    data = instantiate_node(
        {**run.config["task"]["data"], "on_bad_row": "skip"}, "task.data",
        rows=rows, splits={"test": "test"}, source=None, tokenizer=run.tokenizer, format=_format(run),
        max_len=_longest(run), batching=None, cache=None,
    )  # fmt: skip
    return rows, data


def _table(columns: dict[str, list[Any]]) -> Any:
    import pyarrow as pa

    from protoformer.data.sources.source import RawTable

    return RawTable(pa.table(columns), "the text given", "")


KINDS = {"pretraining": _fill_mask, "classification": _classify, "multiple_choice": _choose, "span": _answer}
