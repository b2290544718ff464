"""Weights from and to Hugging Face's formats: one layout class for each family. yaml names the classes."""

from protoformer.models.hf.bert import BertWeights
from protoformer.models.hf.families import FAMILIES, family_of, register_family
from protoformer.models.hf.gpt import Gpt2Weights, GptWeights
from protoformer.models.hf.layout import ExportedRun, Family, HeadLayout, WeightsLayout
from protoformer.models.hf.marian import MarianWeights

__all__ = [
    "FAMILIES",
    "BertWeights",
    "ExportedRun",
    "Family",
    "Gpt2Weights",
    "GptWeights",
    "HeadLayout",
    "MarianWeights",
    "WeightsLayout",
    "family_of",
    "register_family",
]
