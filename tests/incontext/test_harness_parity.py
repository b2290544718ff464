"""The same log-likelihoods and scores as lm-evaluation-harness, on the same weights and texts.

The tasks of the harness are read from its own files. A table of docs/in-context.md says which of them have the same texts as
the tasks here, and what differs.
"""

import importlib.util
import re
import sys
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest
import torch
import transformers
from omegaconf import OmegaConf
from tokenizers import Tokenizer as HFTokenizer
from tokenizers import decoders, models, pre_tokenizers, trainers
from torch import nn

from protoformer.config.groups import option
from protoformer.data.prompts.datamodule import InContextDataModule
from protoformer.data.sources.source import Role
from protoformer.models import weights
from protoformer.models.decoder import Decoder
from protoformer.models.gpt import gpt
from protoformer.models.hf.gpt import Gpt2Weights
from protoformer.modules.in_context.evaluation import InContextEvaluation
from protoformer.modules.in_context.module import InContextModule
from protoformer.text.tokenizers import END_OF_TEXT, Tokenizer

from . import catalogue
from .catalogue import FOLDERS, PAGE, without_target
from .schemas import SCHEMAS

pytestmark = pytest.mark.slow  # the harness takes ten seconds to import
pytest.importorskip("lm_eval", reason="pip install -e .[harness]")

TOLERANCE = 1e-3  # nats a token
POSITIONS = 512


def _script() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "harness_tasks.py"
    spec = importlib.util.spec_from_file_location("harness_tasks", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["harness_tasks"] = module
    spec.loader.exec_module(module)
    return module


script = _script()
ARC = ["incontext/arc_easy", "incontext/arc_challenge"]
FURTHER = ["incontext/swag", "incontext/glue/rte"]  # whose texts are ours alone


class Sides(NamedTuple):
    """The same weights here and in the harness."""

    model: Decoder
    tokenizer: Tokenizer
    harness: Any

    def agreement(self, pairs: Sequence[tuple[str, str]]) -> Any:
        ours = script.our_likelihoods(self.model, self.tokenizer, pairs)
        return script.compare_likelihoods(ours, script.their_likelihoods(self.harness, pairs))


def vocabulary() -> HFTokenizer:
    """A byte-level vocabulary with some words of the invented rows, so that most words have several tokens."""
    built = HFTokenizer(models.BPE())
    built.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    built.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=340, special_tokens=[END_OF_TEXT], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    built.train_from_iterator([str(schema(number)) for schema in SCHEMAS.values() for number in range(5)], trainer)
    return built


@pytest.fixture(scope="module")
def sides() -> Sides:
    from lm_eval.models.huggingface import HFLM

    built = vocabulary()
    sizes = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": POSITIONS}
    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=built.get_vocab_size(), **sizes)
    theirs = transformers.GPT2LMHeadModel(config).eval()
    for name, parameter in theirs.named_parameters():
        nn.init.normal_(parameter, mean=float("ln" in name and name.endswith("weight")), std=0.2)
    ours = gpt(
        vocab_size=config.vocab_size, d_model=32, n_layers=2, n_heads=4, d_ff=128, max_seq_len=POSITIONS, norm="pre"
    ).eval()
    weights.load_into(ours, Gpt2Weights().from_hf(theirs.state_dict())[0], "theirs")
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=built, eos_token=END_OF_TEXT)
    harness = HFLM(pretrained=theirs, tokenizer=fast, batch_size=4, device="cpu")
    return Sides(ours, Tokenizer(built, "words"), harness)


def node(name: str, shots: int = 0) -> dict[str, Any]:
    """The task's node; one of `lm/` too."""
    whole: Any = OmegaConf.create(
        {"task": {**option("task", name, FOLDERS), "shots": shots}, "model": {"max_seq_len": POSITIONS}}
    )
    return OmegaConf.to_container(whole, resolve=True)["task"]  # type: ignore[call-overload, index, return-value]


def data_module(name: str, shots: int, sides: Sides, cache: Path) -> InContextDataModule:
    return catalogue.data_module(node(name, shots), sides.tokenizer, cache)


def evaluated(data: InContextDataModule) -> tuple[Role, str]:
    """The one split that a task evaluates."""
    ((role, split),) = [(role, split) for role, splits in data.tables.items() for split in splits]
    return role, split


def our_texts(data: InContextDataModule) -> list[Any]:
    role, split = evaluated(data)
    return script.our_texts(data, data.raw(role, split), role)


def their_task(name: str, data: InContextDataModule) -> Any:
    role, split = evaluated(data)
    return script.harness_task(script.COUNTERPARTS[name], data.raw(role, split).table.to_pylist())


@pytest.mark.parametrize("shots", [0, 2])
@pytest.mark.parametrize("name", [*script.COUNTERPARTS, *FURTHER])
def test_log_likelihoods_of_our_texts(name: str, shots: int, sides: Sides, tmp_path: Path) -> None:
    if shots and not node(name)["data"]["shots_split"]:
        pytest.skip("a task without shots")
    pairs = script.all_pairs(our_texts(data_module(name, shots, sides, tmp_path)))
    agreement = sides.agreement(pairs)
    assert agreement.sequences == len(pairs) >= 3
    assert agreement.largest_difference <= TOLERANCE
    assert agreement.same_greedy == agreement.sequences


@pytest.mark.parametrize("shots", [0, 2])
@pytest.mark.parametrize("name", [name for name in script.COUNTERPARTS if name != "incontext/lambada"])
def test_log_likelihoods_of_the_texts_of_the_harness(name: str, shots: int, sides: Sides, tmp_path: Path) -> None:
    texts = script.their_texts(their_task(name, data_module(name, 0, sides, tmp_path)), shots)
    assert all(len(context) > 10 for each in texts for context in each.contexts)
    agreement = sides.agreement(script.all_pairs(texts))
    assert agreement.sequences >= 3
    assert agreement.largest_difference <= TOLERANCE
    assert agreement.same_greedy == agreement.sequences


def compared_on_the_page() -> dict[str, bool]:
    """Tasks by the patterns of the page's table, and whether it says that the texts are the same."""
    rows = re.findall(r"^\| `([a-z_0-9/*]+)` \| `[a-z_0-9*]+` \| (yes|no) \|", PAGE.read_text(encoding="utf-8"), re.M)
    return {pattern: same == "yes" for pattern, same in rows}


@pytest.mark.parametrize("name", script.COUNTERPARTS)
def test_the_page_says_whose_texts_are_the_same(name: str, sides: Sides, tmp_path: Path) -> None:
    data = data_module(name, 0, sides, tmp_path)
    ours, theirs = our_texts(data), script.their_texts(their_task(name, data))
    (said,) = [same for pattern, same in compared_on_the_page().items() if fnmatch(name, pattern)]
    assert (script.all_pairs(ours) == script.all_pairs(theirs)) is said
    assert [each.gold for each in ours] == [each.gold for each in theirs]
    assert [len(each.completions) for each in ours] == [len(each.completions) for each in theirs]


def their_metrics(task: Any, texts: Sequence[Any], sides: Sides) -> dict[str, float]:
    """The metrics of the harness over all examples."""
    results = iter(script.their_likelihoods(sides.harness, script.all_pairs(texts)))
    by_metric: dict[str, list[Any]] = {}
    for row, each in zip(task.eval_docs, texts, strict=True):
        for metric, value in task.process_results(row, [next(results) for _ in each.completions]).items():
            by_metric.setdefault(metric, []).append(value)
    return {metric: task.aggregation()[metric](values) for metric, values in by_metric.items()}


def our_evaluation(name: str, data: InContextDataModule, sides: Sides) -> InContextEvaluation:
    role, split = evaluated(data)
    references = data.references(role, split)
    module = InContextModule(backbone=sides.model, splits={"val": [split]}, **without_target(node(name)["module"]))
    module.references = {"val": {split: references}}
    outputs = module.eval_step(data.collate(data.tables[role][split])(list(range(len(data.tables[role][split])))))
    return module.evaluate("val", split, outputs)


@pytest.mark.parametrize("name", ["lm/lambada", *ARC])
def test_scores_where_the_texts_are_the_same(name: str, sides: Sides, tmp_path: Path) -> None:
    data = data_module(name, 0, sides, tmp_path)
    task = their_task(name, data)
    theirs = their_metrics(task, script.their_texts(task), sides)
    evaluation = our_evaluation(name, data, sides)
    ours = {**evaluation.scores, **evaluation.other_metrics}
    assert ours["accuracy"] == pytest.approx(theirs["acc"])
    if name == "lm/lambada":
        assert ours["perplexity"] == pytest.approx(theirs["perplexity"], rel=1e-4)


def test_a_completion_that_merges_with_its_context(sides: Sides) -> None:
    """What the harness refuses has its last token here; a token that only crosses the boundary is scored alike."""
    whole = HFTokenizer(models.BPE(vocab={"a": 0, "b": 1, "ab": 2, "c": 3, END_OF_TEXT: 4}, merges=[("a", "b")]))
    whole.add_special_tokens([END_OF_TEXT])
    own = Tokenizer(whole, "merged")
    swallowed, crossing = script.encoded(own, [("ca", "b"), ("ca", "bc")], positions=8)
    assert (swallowed.ids, swallowed.start, swallowed.merged) == ([3, 2], 1, True)
    assert (crossing.ids, crossing.start, crossing.merged) == ([3, 0, 3], 2, True)
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=whole, eos_token=END_OF_TEXT)
    backend = type(sides.harness)(pretrained=sides.harness.model, tokenizer=fast, batch_size=1, device="cpu")
    assert backend._encode_pair("ca", "bc") == ([3, 0], [3])
    assert backend._encode_pair("ca", "b") == ([3, 0], [])
    with pytest.raises(AssertionError):
        script.their_likelihoods(backend, [("ca", "b")])


def test_texts_longer_than_the_model_reads(sides: Sides) -> None:
    """Both cut the beginning of the context."""
    pairs = [("The plum fell. " * 100 + "Who ate", " the quince"), ("Eve " * 400 + "once", " met Finn")]
    cut = script.encoded(sides.tokenizer, pairs, POSITIONS)
    assert [len(pair.ids) for pair in cut] == [POSITIONS + 1] * 2
    assert sides.agreement(pairs).largest_difference <= TOLERANCE
