"""Hugging Face's layouts of published weights: one class for each family, from and to its names. yaml names them."""

from protoformer.models.hf.bert import BertWeights
from protoformer.models.hf.gpt import Gpt2Weights, GptWeights
from protoformer.models.hf.marian import MarianWeights

__all__ = ["BertWeights", "Gpt2Weights", "GptWeights", "MarianWeights"]
