"""The encoder of an encoder-decoder under a task on texts: its parts in place of those that the task's own model would have."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from protoformer import hub
from protoformer.assembly.build import Parts, build_datamodule
from protoformer.assembly.initial_weights import InitialWeights
from protoformer.assembly.instantiate import instantiate
from protoformer.assembly.model import ResolvedModel, build_module, builder_arguments
from protoformer.assembly.own_data import with_own_data
from protoformer.config.groups import supports
from protoformer.inference.load import load
from protoformer.models import weights
from protoformer.models.encoder_decoder import EncoderDecoder, source_encoder
from protoformer.models.hf import family_of
from protoformer.runs.reader import read_config
from protoformer.text.encoder_decoder.source_template import SourceTemplate

OPTION = "transformer_encoder"  # of the group `model`: the settings of its tasks; the run's own model is then put in its place
TRANSLATION = "task=translate/"
TRANSLATION_DATA = "protoformer.data.TranslationDataModule"
TEMPLATE = f"{SourceTemplate.__module__}.{SourceTemplate.__qualname__}"


def is_encoder_decoder(source: str) -> bool:
    """Whether a run, or a folder or hub id of weights, is an encoder-decoder."""
    folder = Path(source).expanduser()
    if (folder / "config.yaml").is_file():
        return supports(read_config(folder)["model"]["template"]["_target_"], TRANSLATION_DATA)
    family = family_of(weights.read_config(hub.resolve_folder(source)))
    return family is not None and family.architecture == "encoder_decoder"


def words_for_probes(source: str, words: Sequence[str]) -> list[str]:
    """The command line of an evaluation; of an encoder-decoder with a model option that reads texts in place of its own, which
    has no task but translation."""
    if any(word.startswith(TRANSLATION) for word in words) or not is_encoder_decoder(source):
        return list(words)
    return [f"model={OPTION}" if word.startswith("model=") else word for word in words]


def encodes_texts(config: dict[str, Any]) -> bool:
    """Whether a task's examples are texts that an encoder's source can hold."""
    return supports(TEMPLATE, config["task"]["data"]["_target_"])


def encoder_parts(config: dict[str, Any]) -> Parts:
    """The encoder of `init_from` under the task's module, with its own vocabulary."""
    name = config["init_from"]
    opened = load(name)
    model = opened.model.backbone
    assert isinstance(model, EncoderDecoder)
    source, initial = instantiate(config, "source"), InitialWeights(name)
    config = {**with_own_data(config, source, initial), "model": {"max_seq_len": model.max_seq_len}}
    target = f"{source_encoder.__module__}.{source_encoder.__qualname__}"
    resolved = ResolvedModel(
        {"_target_": target, "model": builder_arguments(opened.config["model"])},
        {
            "_target_": TEMPLATE,
            "eos_id": opened.template().eos_id,
        },
    )
    whole = resolved.in_config(config)
    module = build_module(whole, resolved.arguments)
    module.backbone.load_state_dict(source_encoder(model=model).state_dict())
    data = build_datamodule(whole, source, opened.tokenizer)
    return Parts(module, data, opened.tokenizer, resolved, initial, source, config)
