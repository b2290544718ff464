"""The families whose bare weight folders can be opened, by `model_type` in `config.json`.

A family of another package is added by `register_family` once the package is imported, or, for the commands, by an entry point
of that package: group `protoformer.families`, name the `model_type`, object a `Family`. A run needs no entry here: its config
names builder, layout and template by class path.
"""

from functools import partial
from importlib.metadata import entry_points

from protoformer.models.bert import bert
from protoformer.models.gpt import gpt
from protoformer.models.hf.bert import BertWeights
from protoformer.models.hf.gpt import Gpt2Weights, GptWeights
from protoformer.models.hf.layout import Family
from protoformer.models.hf.marian import MarianWeights
from protoformer.models.transformer import transformer
from protoformer.models.weights import HfConfig
from protoformer.text.encoder_decoder.translation_template import TranslationTemplate
from protoformer.text.templates import BertTemplate, GptTemplate

ENTRY_POINTS = "protoformer.families"
FAMILIES: dict[str, Family] = {
    BertWeights.model_type: Family(bert, BertWeights, BertTemplate, "encoder"),
    GptWeights.model_type: Family(gpt, GptWeights, GptTemplate, "decoder"),
    Gpt2Weights.model_type: Family(gpt, Gpt2Weights, GptTemplate, "decoder"),
    MarianWeights.model_type: Family(
        transformer,
        MarianWeights,
        partial(TranslationTemplate, bos_token="<pad>", eos_token="</s>", suppressed_tokens=["<pad>"]),
        "encoder_decoder",
    ),
}


def register_family(family: Family) -> None:
    """Let bare folders of a family be opened. Raises ValueError for a `model_type` that another family has."""
    model_type = family.layout().model_type
    if FAMILIES.setdefault(model_type, family) is not family:
        raise ValueError(f"the model_type {model_type!r} is that of another family")


def family_of(config: HfConfig) -> Family | None:
    """The family of a `config.json`; None for one that is not known. Files without a model_type are BERT's first ones."""
    model_type = config.get("model_type", BertWeights.model_type)
    if not isinstance(model_type, str):
        return None
    if model_type not in FAMILIES:
        for entry_point in entry_points(group=ENTRY_POINTS, name=model_type):
            register_family(entry_point.load())
    return FAMILIES.get(model_type)
