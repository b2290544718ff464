"""Questions on contexts of random words, with known answers and with logits that a test decides."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from protoformer.batches import SpanBatch
from protoformer.data.batching.samplers import BatchConfig
from protoformer.data.datamodules.context import DataContext
from protoformer.data.datamodules.span import SpanDataModule
from protoformer.data.examples.extractive_qa import ExtractiveQAReader
from protoformer.data.sources.source import DatasetRef, RawTable
from protoformer.models.bert import bert
from protoformer.modules.evaluation import EvalOutputs, gather_examples
from protoformer.modules.kinds.span import SpanEvaluation, SpanModule
from protoformer.scoring import spans
from protoformer.text.templates import BertTemplate
from protoformer.text.tokenizers import whole_word_tokenizer

NAMES = ("ids", "padding_mask", "segment_ids")


LONGEST = 30


def module(**settings: Any) -> SpanModule:
    settings = {"splits": {"val": [""], "test": [""]}, **settings}
    sizes = {"vocab_size": 60, "d_model": 8, "n_layers": 1, "n_heads": 1, "d_ff": 8, "max_seq_len": 400}
    return SpanModule(backbone=bert(**sizes, dropout=0.0), **settings).eval()


# --- answers over several windows


def random_words(number: int, seed: int) -> str:
    """Few different words, so that the same text stands in many places."""
    return " ".join(f"w{n}" for n in np.random.default_rng(seed).integers(0, 9, size=number))


def table(contexts: Sequence[str], answers: Sequence[Sequence[str]] | None) -> RawTable:
    count = len(contexts)
    columns: dict[str, Any] = {
        "id": [f"q{i}" for i in range(count)],
        "question": [f"w{i} ?" for i in range(count)],
        "context": list(contexts),
    }
    if answers is not None:
        columns["answers"] = [
            {"text": list(texts), "answer_start": [c.index(t) for t in texts]}
            for c, texts in zip(contexts, answers, strict=True)
        ]
    return RawTable(pa.table(columns), "squad/any.jsonl", str(hash(str(columns))))


class Source:
    def __init__(self, **splits: RawTable) -> None:
        self.splits = splits

    def load(self, ref: DatasetRef, split: str) -> RawTable:
        return self.splits[split]


def data(cache: Path, unanswerable: bool = False, **splits: RawTable) -> SpanDataModule:
    tokenizer = whole_word_tokenizer([random_words(300, 0), "?"], "here")
    datamodule = SpanDataModule(
        DataContext(
            reader=ExtractiveQAReader("squad", unanswerable=unanswerable),
            splits={name: name for name in splits},
            source=Source(**splits),  # type: ignore[arg-type]
            tokenizer=tokenizer,
            template=BertTemplate(tokenizer),
            max_len=45,
            batch_config=BatchConfig(4, eval_rows=5),
            cache=cache,
        ),
        stride=9,
    )
    datamodule.setup()
    return datamodule


def fix_logits(ours: SpanModule, windows: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Let a module say drawn logits of each window."""
    drawn = 3 * torch.randn(2, windows, 45, generator=torch.Generator().manual_seed(seed))

    def forward(batch: SpanBatch) -> tuple[Tensor, Tensor]:
        seq = batch["ids"].shape[1]
        return drawn[0, batch["example_ids"], :seq], drawn[1, batch["example_ids"], :seq]

    ours.forward = forward  # type: ignore[method-assign]
    return drawn[0], drawn[1]


def eval_outputs(ours: SpanModule, loader: Any) -> EvalOutputs:
    return gather_examples([ours.eval_step(batch) for batch in loader], 1)


CONTEXTS = [random_words(n, seed) for seed, n in enumerate((60, 41, 7, 95))]


GOLD = [[" ".join(c.split()[2:4]), " ".join(c.split()[-2:])] for c in CONTEXTS]


# --- questions without an answer


def unanswerable(cache: Path, count: int = 24, hidden: bool = True) -> tuple[SpanDataModule, list[list[str]]]:
    contexts = [random_words(10 + 2 * i, i) for i in range(count)]
    gold = [[] if i % 3 == 0 else [" ".join(c.split()[2:4])] for i, c in enumerate(contexts)]
    datamodule = data(
        cache, True, validation=table(contexts, gold), test=table(contexts[:9], None if hidden else gold[:9])
    )  # fmt: skip
    return datamodule, gold


def evaluated(
    datamodule: SpanDataModule, logits_seed: int = 3, **settings: Any
) -> tuple[SpanModule, SpanEvaluation, EvalOutputs]:
    ours = module(unanswerable=True, **settings)
    start, end = fix_logits(ours, len(datamodule.tables["validation"][""]), logits_seed)
    rows = datamodule.tables["validation"][""]
    for window in range(len(rows)):  # make some answers right
        if window % 2:
            start[window, rows.start_position[window]] += 9
            end[window, rows.end_position[window]] += 9
    ours.references = {
        "val": {"": datamodule.references("validation", "")},
        "test": {"": datamodule.references("test", "")},
    }
    columns = eval_outputs(ours, datamodule.val_dataloader()[0])
    return ours, ours.evaluate("val", "", columns), columns


def best(answers: Sequence[spans.Answer]) -> str:
    return next(answer.text for answer in answers if answer.text)
