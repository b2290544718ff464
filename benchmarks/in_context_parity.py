"""In-context scoring compared with the Hugging Face backend of lm-evaluation-harness: log-likelihoods, and speed in one run.

    pip install "lm-eval[hf]==0.4.13"
    python benchmarks/in_context_parity.py --tokenizer DIR                        # random GPT-2 weights, the built-in sample
    python benchmarks/in_context_parity.py --tokenizer DIR --data DIR --weights DIR
    python benchmarks/in_context_parity.py --tokenizer DIR --data DIR --weights DIR --tasks lm/lambada incontext/copa --rows 300

Both sides get the same texts and the same weights, in fp32, and each tokenises for itself. A pair of a context and a completion
differs where log P per token differs by more than the tolerance, which ends in exit code 1. The two sides take turns. The reuse
factor is the number of tokens of all sequences divided by those that were run.

With `--tasks` texts are compared instead of speed: those that the task here makes of rows of `--data`, and those that the
harness makes of the same rows by its own yaml, each scored on both sides.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from lm_eval.models.huggingface import HFLM

from harness_tasks import (
    COUNTERPARTS,
    Agreement,
    all_pairs,
    compare_likelihoods,
    harness_task,
    our_likelihoods,
    our_texts,
    their_likelihoods,
    their_texts,
)
from protoformer.assembly.build import build_datamodule
from protoformer.assembly.instantiate import instantiate
from protoformer.config.compose import compose
from protoformer.data.prompts.datamodule import InContextDataModule
from protoformer.incontext.prefix_scoring import PrefixScorer, Request
from protoformer.models import weights
from protoformer.models.decoder import Decoder
from protoformer.models.gpt import gpt
from protoformer.models.hf.gpt import Gpt2Weights
from protoformer.text.prompts.pairs import encode_pairs
from protoformer.text.tokenizer_files import read_tokenizer
from protoformer.text.tokenizers import END_OF_TEXT, Tokenizer

TOLERANCE = 1e-3  # nats a token


class Case(NamedTuple):
    """A task, and how many of its examples are scored."""

    name: str
    overrides: Sequence[str]
    examples: int


CASES = (
    Case("5 shots, four choices", ("task=incontext/swag", "task.shots=5", "source=sample"), 24),
    Case("no shots, four choices", ("task=incontext/swag", "source=sample"), 48),
    Case("LAMBADA", ("task=lm/lambada",), 64),
)


def main() -> int:
    options = _options()
    torch.set_num_threads(options.threads)
    theirs, ours = models(options.weights)
    tokenizer = read_tokenizer(Path(options.tokenizer))
    harness = HFLM(
        pretrained=theirs,
        tokenizer=transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer.hf_tokenizer, eos_token=END_OF_TEXT),
        batch_size=options.batch_size,
        device="cpu",
    )
    if options.tasks is not None:
        report = [compare_texts(name, options, tokenizer, harness, ours) for name in options.tasks or COUNTERPARTS]
        differences = [row[side]["largest difference"] for row in report for side in ("our texts", "their texts")]
    else:
        report = [compare(case, options, tokenizer, harness, ours) for case in CASES]
        differences = [row["largest difference"] for row in report]
    print(json.dumps({"threads": options.threads, "torch": torch.__version__, "cases": report}, indent=2))
    return 0 if max(differences) <= TOLERANCE else 1


def models(folder: str | None) -> tuple[transformers.GPT2LMHeadModel, Decoder]:
    """GPT-2 of `transformers` and ours with the same weights: of a folder, or random ones in the published size."""
    torch.manual_seed(0)
    if folder is None:
        theirs = transformers.GPT2LMHeadModel(transformers.GPT2Config())
    else:
        theirs = transformers.GPT2LMHeadModel.from_pretrained(folder)
    sizes = theirs.config
    ours = gpt(
        vocab_size=sizes.vocab_size,
        d_model=sizes.n_embd,
        n_layers=sizes.n_layer,
        n_heads=sizes.n_head,
        d_ff=sizes.n_inner or 4 * sizes.n_embd,
        max_seq_len=sizes.n_positions,
        norm="pre",
    )
    weights.load_into(ours, Gpt2Weights().from_hf(theirs.state_dict())[0], "theirs")
    return theirs.eval(), ours.eval()


def compare(
    case: Case, options: argparse.Namespace, tokenizer: Tokenizer, harness: Any, ours: Decoder
) -> dict[str, Any]:
    contexts, completions = texts(case, options, tokenizer)
    sequences = list(zip(contexts, completions, strict=True))
    seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
    for _ in range(options.turns):
        start = time.perf_counter()
        expected = their_likelihoods(harness, sequences)
        seconds["theirs"].append(time.perf_counter() - start)
        start = time.perf_counter()
        scorer = PrefixScorer(ours)
        pairs = encode_pairs(tokenizer, contexts, completions, tokenizer.id(END_OF_TEXT))
        likelihoods = scorer.score([Request(pair.ids, pair.start) for pair in pairs])
        seconds["ours"].append(time.perf_counter() - start)
    agreement = compare_likelihoods(likelihoods, expected)
    return {
        "case": case.name,
        **as_report(agreement),
        "ours, s": round(min(seconds["ours"]), 2),
        "lm-eval, s": round(min(seconds["theirs"]), 2),
        "times faster": round(min(seconds["theirs"]) / min(seconds["ours"]), 2),
        "reuse factor": round(scorer.reuse.factor, 2),
    }


def compare_texts(
    name: str, options: argparse.Namespace, tokenizer: Tokenizer, harness: Any, ours: Decoder
) -> dict[str, Any]:
    """Our texts of a task's first rows and those of the harness, each on both sides."""
    with datamodule([f"task={name}", "source=local", f"source.root={options.data}"], tokenizer) as data:
        (role, split), *_ = [(role, split) for role, splits in data.tables.items() for split in splits]
        raw = data.raw(role, split)
        raw = raw.take(range(min(options.rows, raw.table.num_rows)))
        sides = {
            "our texts": our_texts(data, raw, role),
            "their texts": their_texts(harness_task(COUNTERPARTS[name], raw.table.to_pylist())),
        }
    report: dict[str, Any] = {"task": name, "rows": raw.table.num_rows}
    for side, texts in sides.items():
        pairs = all_pairs(texts)
        agreement = compare_likelihoods(our_likelihoods(ours, tokenizer, pairs), their_likelihoods(harness, pairs))
        report[side] = as_report(agreement)
    equal = [one.pairs == other.pairs for one, other in zip(*sides.values(), strict=True)]
    same_gold = [one.gold == other.gold for one, other in zip(*sides.values(), strict=True)]
    return {**report, "rows with the same texts": sum(equal), "rows with the same right answer": sum(same_gold)}


def as_report(agreement: Agreement) -> dict[str, Any]:
    return {
        "sequences": agreement.sequences,
        "largest difference": agreement.largest_difference,
        "same greedy": f"{agreement.same_greedy} of {agreement.sequences}",
    }


@contextmanager
def datamodule(words: Sequence[str], tokenizer: Tokenizer) -> Iterator[InContextDataModule]:
    """The data module of a task, set up in a folder that is removed in the end."""
    with tempfile.TemporaryDirectory() as tmp:
        config = compose(["model=gpt2", *words, f"paths.cache={tmp}", f"paths.outputs={tmp}"])
        data = build_datamodule(config, instantiate(config, "source"), tokenizer)
        assert isinstance(data, InContextDataModule)
        data.setup()
        yield data


def texts(case: Case, options: argparse.Namespace, tokenizer: Tokenizer) -> tuple[list[str], list[str]]:
    """Contexts and completions of the first examples, as the data module writes them."""
    local = ["source=local", f"source.root={options.data}"]
    source = [] if any(word.startswith("source=") for word in case.overrides) else local
    with datamodule([*case.overrides, *source], tokenizer) as data:
        (table,) = [table for tables in data.tables.values() for table in tables.values()]
        pairs = [each for example in range(min(len(table), case.examples)) for each in table.sequences(example)]
    return (
        [tokenizer.decode(pair.ids[: pair.start]) for pair in pairs],
        [tokenizer.decode(pair.ids[pair.start :]) for pair in pairs],
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", required=True, help="tokenizer.json, or a folder with vocab.json and merges.txt")
    parser.add_argument("--weights", help="a Hugging Face GPT-2 folder (default: random weights of the small size)")
    parser.add_argument("--data", type=Path, help="a folder in the hub's layout, for LAMBADA and --tasks")
    parser.add_argument(
        "--tasks", nargs="*", choices=[*COUNTERPARTS], metavar="TASK", help="compare texts (no name: all)"
    )
    parser.add_argument("--rows", type=int, default=300, help="rows of each of --tasks")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=16, help="sequences of a batch of lm-eval")
    parser.add_argument("--turns", type=int, default=2, help="the quicker one of so many turns counts")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
