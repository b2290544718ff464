"""Tokenizers, and input templates: how a model family writes an example down as ids. yaml names the templates."""

from protoformer.text.encoder_decoder.translation_template import TranslationTemplate
from protoformer.text.templates import BertTemplate, GptTemplate, SeparatedTemplate

__all__ = ["BertTemplate", "GptTemplate", "SeparatedTemplate", "TranslationTemplate"]
