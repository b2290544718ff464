"""In-context scoring compared with the Hugging Face backend of lm-evaluation-harness: log-likelihoods, and speed in one run.

    pip install lm-eval==0.4.13
    python benchmarks/in_context_parity.py --tokenizer DIR                        # random GPT-2 weights, the built-in sample
    python benchmarks/in_context_parity.py --tokenizer DIR --data DIR --weights DIR

Both sides get the same texts and the same weights, in fp32, and each tokenises for itself. A pair of a context and a completion
differs where log P per token differs by more than the tolerance, which ends in exit code 1. The two sides take turns. The reuse
factor is the number of tokens of all sequences divided by those that were run.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

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
        tokenizer=transformers.GPT2TokenizerFast.from_pretrained(options.tokenizer),
        batch_size=options.batch_size,
        device="cpu",
    )
    report = [compare(case, options, tokenizer, harness, ours) for case in CASES]
    print(json.dumps({"threads": options.threads, "torch": torch.__version__, "cases": report}, indent=2))
    return 0 if all(row["largest difference"] <= TOLERANCE for row in report) else 1


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
    instances = [
        Instance("loglikelihood", doc={}, arguments=pair, idx=index)
        for index, pair in enumerate(zip(contexts, completions, strict=True))
    ]
    seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
    for _ in range(options.turns):
        start = time.perf_counter()
        expected = harness.loglikelihood(instances, disable_tqdm=True)
        seconds["theirs"].append(time.perf_counter() - start)
        start = time.perf_counter()
        scorer = PrefixScorer(ours)
        pairs = encode_pairs(tokenizer, contexts, completions, tokenizer.id(END_OF_TEXT))
        likelihoods = scorer.score([Request(pair.ids, pair.start) for pair in pairs])
        seconds["ours"].append(time.perf_counter() - start)
    differences = [
        abs(one.total - other) / len(one.log_probs) for one, (other, _) in zip(likelihoods, expected, strict=True)
    ]
    greedy = sum(one.is_greedy == other for one, (_, other) in zip(likelihoods, expected, strict=True))
    return {
        "case": case.name,
        "sequences": len(contexts),
        "largest difference": max(differences),
        "same greedy": f"{greedy} of {len(contexts)}",
        "ours, s": round(min(seconds["ours"]), 2),
        "lm-eval, s": round(min(seconds["theirs"]), 2),
        "times faster": round(min(seconds["theirs"]) / min(seconds["ours"]), 2),
        "reuse factor": round(scorer.reuse.factor, 2),
    }


def texts(case: Case, options: argparse.Namespace, tokenizer: Tokenizer) -> tuple[list[str], list[str]]:
    """Contexts and completions of the first examples, as the data module writes them."""
    local = ["source=local", f"source.root={options.data}"]
    source = [] if any(word.startswith("source=") for word in case.overrides) else local
    with tempfile.TemporaryDirectory() as tmp:
        config = compose(["model=gpt2", *case.overrides, *source, f"paths.cache={tmp}", f"paths.outputs={tmp}"])
        data = build_datamodule(config, instantiate(config, "source"), tokenizer)
        assert isinstance(data, InContextDataModule)
        data.setup()
        (table,) = [table for tables in data.tables.values() for table in tables.values()]
        pairs = [each for example in range(min(len(table), case.examples)) for each in table.sequences(example)]
    return (
        [tokenizer.decode(pair.ids[: pair.start]) for pair in pairs],
        [tokenizer.decode(pair.ids[pair.start :]) for pair in pairs],
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", required=True, help="a folder with GPT-2's vocab.json and merges.txt")
    parser.add_argument("--weights", help="a Hugging Face GPT-2 folder (default: random weights of the small size)")
    parser.add_argument("--data", type=Path, help="a folder in the hub's layout, for LAMBADA")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=16, help="sequences of a batch of lm-eval")
    parser.add_argument("--turns", type=int, default=2, help="the quicker one of so many turns counts")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
