"""Tasks of lm-evaluation-harness as its own yamls write them, on rows that are at hand, and log-likelihoods of both sides.

The harness downloads nothing: `custom_dataset` in a task's configuration gives it the rows.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import lm_eval.tasks
from lm_eval.api.instance import Instance
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks._yaml_loader import load_yaml

from protoformer.data.prompts.datamodule import InContextDataModule
from protoformer.data.prompts.rendering import prompt_texts
from protoformer.data.sources.source import RawTable, Role
from protoformer.incontext.prefix_scoring import Likelihood, PrefixScorer, Request
from protoformer.models.decoder import Decoder
from protoformer.text.prompts.pairs import EncodedPair, encode_pairs
from protoformer.text.tokenizers import END_OF_TEXT, Tokenizer

YAMLS = Path(lm_eval.tasks.__file__).parent
ARITHMETIC = ("1dc", "2da", "2ds", "2dm", "3da", "3ds", "4da", "4ds", "5da", "5ds")
COUNTERPARTS: Mapping[str, str] = {  # task here -> the file of the harness for the same data
    "lm/lambada": "lambada/lambada_openai.yaml",
    "incontext/lambada": "lambada/lambada_openai.yaml",
    "incontext/copa": "super_glue/copa/default.yaml",
    "incontext/arc_easy": "arc/arc_easy.yaml",
    "incontext/arc_challenge": "arc/arc_challenge.yaml",
    "incontext/piqa": "piqa/piqa.yaml",
    **{f"incontext/arithmetic/{name}": f"arithmetic/arithmetic_{name}.yaml" for name in ARITHMETIC},
}


class Texts(NamedTuple):
    """An example: the context of each choice, what follows it, and which one is right."""

    contexts: Sequence[str]
    completions: Sequence[str]
    gold: int

    @property
    def pairs(self) -> list[tuple[str, str]]:
        return list(zip(self.contexts, self.completions, strict=True))


def our_texts(data: InContextDataModule, raw: RawTable, role: Role) -> list[Texts]:
    """The texts of each example of these rows, as the task here renders them."""
    examples = data.prompt_reader.read(raw, role).examples
    return [
        Texts(
            prompt_texts(data.prompt_reader, prompt.example, prompt.shots),
            prompt.example.completions,
            prompt.example.gold,
        )
        for prompts in data.prompts(raw, examples)
        for prompt, _ in prompts
    ]


def harness_task(
    file: str, rows: Sequence[Mapping[str, Any]], shots: Sequence[Mapping[str, Any]] = ()
) -> ConfigurableTask:
    """The task of a yaml, whose evaluated splits hold `rows`, and whose training split `shots`."""
    config = load_yaml(YAMLS / file)
    config.pop("tag", None)
    evaluated = datasets.Dataset.from_list(list(rows))
    splits = {config[key]: evaluated for key in ("validation_split", "test_split") if config.get(key)}
    if config.get("training_split"):
        splits[config["training_split"]] = datasets.Dataset.from_list(list(shots or rows))
    return ConfigurableTask(config={**config, "custom_dataset": lambda **_: datasets.DatasetDict(splits)})


def their_texts(task: ConfigurableTask, shots: int = 0) -> list[Texts]:
    """The texts of each example, as the harness gives them to a model."""
    if shots:
        task.set_fewshot_seed(0)
    texts = []
    for row in task.eval_docs:
        requests = task.construct_requests(
            row, task.fewshot_context(row, shots), metadata=(task.config.task, 0, 1), doc_id=0
        )
        instances = requests if isinstance(requests, list) else [requests]
        contexts, completions = zip(*(each.args for each in instances), strict=True)
        target = task.doc_to_target(row)
        gold = 0
        if len(completions) > 1:
            gold = target if isinstance(target, int) else list(task.doc_to_choice(row)).index(target)
        texts.append(Texts(contexts, completions, gold))
    return texts


def all_pairs(texts: Sequence[Texts]) -> list[tuple[str, str]]:
    return [pair for each in texts for pair in each.pairs]


def encoded(tokenizer: Tokenizer, pairs: Sequence[tuple[str, str]], positions: int) -> list[EncodedPair]:
    """Pairs of a context and a completion, without the beginnings of those that are longer than the model reads."""
    contexts, completions = zip(*pairs, strict=True)
    return [
        pair._replace(ids=pair.ids[-(positions + 1) :], start=pair.start - max(0, len(pair.ids) - positions - 1))
        for pair in encode_pairs(tokenizer, contexts, completions, tokenizer.id(END_OF_TEXT))
    ]


def our_likelihoods(model: Decoder, tokenizer: Tokenizer, pairs: Sequence[tuple[str, str]]) -> list[Likelihood]:
    """By the scorer of in-context tasks."""
    requests = [Request(pair.ids, pair.start) for pair in encoded(tokenizer, pairs, model.max_seq_len)]
    return PrefixScorer(model).score(requests)


def their_likelihoods(harness: Any, pairs: Sequence[tuple[str, str]]) -> list[tuple[float, bool]]:
    """By a model of the harness: log P of each completion, and whether greedy decoding writes it."""
    instances = [Instance("loglikelihood", doc={}, arguments=pair, idx=index) for index, pair in enumerate(pairs)]
    return harness.loglikelihood(instances, disable_tqdm=True)


class Agreement(NamedTuple):
    """How log-likelihoods of the same texts differ: the largest difference in nats a token, and equal greedy answers."""

    sequences: int
    largest_difference: float
    same_greedy: int


def compare_likelihoods(ours: Sequence[Likelihood], theirs: Sequence[tuple[float, bool]]) -> Agreement:
    pairs = list(zip(ours, theirs, strict=True))
    return Agreement(
        sequences=len(pairs),
        largest_difference=max(abs(one.total - total) / len(one.log_probs) for one, (total, _) in pairs),
        same_greedy=sum(one.is_greedy == greedy for one, (_, greedy) in pairs),
    )
