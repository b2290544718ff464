"""The families whose bare weight folders can be opened, by `model_type` in `config.json`.

A run needs no entry here: its config names builder, layout and template by class path.
"""

from collections.abc import Mapping
from functools import partial

from protoformer.models.bert import bert
from protoformer.models.gpt import gpt
from protoformer.models.hf.bert import BertWeights
from protoformer.models.hf.gpt import Gpt2Weights, GptWeights
from protoformer.models.hf.layout import Family
from protoformer.models.hf.marian import MarianWeights
from protoformer.models.transformer import transformer
from protoformer.models.weights import HfConfig
from protoformer.text.templates import BertTemplate, GptTemplate
from protoformer.text.translation_template import TranslationTemplate

FAMILIES: Mapping[str, Family] = {
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


def family_of(config: HfConfig) -> Family | None:
    """The family of a `config.json`; None for one that is not known. Files without a model_type are BERT's first ones."""
    model_type = config.get("model_type", BertWeights.model_type)
    return FAMILIES.get(model_type) if isinstance(model_type, str) else None
