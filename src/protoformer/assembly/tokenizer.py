"""The tokenizer of a run: the model's own, or one learned from the training text."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from protoformer import hub
from protoformer.assembly.initial_weights import InitialWeights
from protoformer.assembly.instantiate import instantiate
from protoformer.errors import ConfigurationError, WeightsError
from protoformer.text.tokenizer_files import TOKENIZER_FILES, read_tokenizer
from protoformer.text.tokenizers import Tokenizer, whole_word_tokenizer, with_normalization

log = logging.getLogger(__name__)
FILE_SUFFIXES = (".json", ".txt", ".model")  # of vocabularies; no hub id ends so


def build_tokenizer(config: Mapping[str, Any], initial: InitialWeights, source: Any) -> Tokenizer:
    """The tokenizer of `model.tokenizer`, which normalizes texts as `model.normalization` says."""
    tokenizer, normalization = find_tokenizer(config, initial, source), config["model"].get("normalization")
    return tokenizer if normalization is None else with_normalization(tokenizer, normalization)


def find_tokenizer(config: Mapping[str, Any], initial: InitialWeights, source: Any) -> Tokenizer:
    """`model.tokenizer=FILE`; for `auto` that of the initial weights, one learnt from the task's training text, the source's
    own, or the published one, whichever there is first.

    Raises ConfigurationError for a file with other ids than the initial weights were trained with, and where there is none.
    """
    name = config["model"]["tokenizer"]
    of_weights = initial.folder and (initial.folder / "tokenizer" if initial.is_run else initial.folder)
    if name != "auto":
        path = Path(name).expanduser()
        if not path.exists() and (hub.is_path(name) or path.suffix in FILE_SUFFIXES):
            raise ConfigurationError(f"model.tokenizer={name}: no such file or folder")
        tokenizer = read_tokenizer(path if path.exists() else hub.fetch(name, None, weights=False)[0])
        if of_weights and any((of_weights / file).exists() for file in TOKENIZER_FILES):
            differing = tokenizer.count_differing_ids(read_tokenizer(of_weights))
            if differing:
                raise ConfigurationError(
                    f"model.tokenizer={name}: {differing} of its {tokenizer.vocab_size} tokens have another id, or none, in "
                    f"the vocabulary that {initial.source_name} was trained with; leave model.tokenizer out"
                )
        return tokenizer
    if of_weights:
        return read_tokenizer(of_weights)
    if config["task"].get("vocabulary") and config["task"]["splits"].get("train"):
        learner, rows = instantiate(config, "task.vocabulary"), instantiate(config, "task.rows")
        return learner.learn(rows, source, config["task"]["splits"]["train"], Path(config["paths"]["cache"]))
    texts = source.corpus()
    if texts is not None:
        return whole_word_tokenizer(texts, "the source's own words")
    published = config["model"].get("hf") or {}
    if not published.get("repo"):
        raise ConfigurationError("this model has no published tokenizer: give one as model.tokenizer=FILE")
    try:
        return read_tokenizer(hub.fetch(published["repo"], published.get("revision"), weights=False)[0])
    except WeightsError as error:
        raise WeightsError(_no_vocabulary(published["repo"], str(error))) from None


def _no_vocabulary(repo: str, reason: str) -> str:
    """The message for a published vocabulary that cannot be had, where no weights are to be loaded."""
    missing = f"not in the cache, and the hub cannot be reached: {hub.unreachable()}" if hub.unreachable() else reason
    return (
        f"the vocabulary of {repo}: {missing}; with a network `protoformer prepare` fetches it, without one give "
        "model.tokenizer=FILE (a vocab.txt or a tokenizer.json)"
    )
