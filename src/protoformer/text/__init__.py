"""Tokenizers, and input templates: how a model family writes an example down as ids. yaml names the templates."""

from protoformer.text.templates import BertTemplate, GptTemplate, SeparatedTemplate
from protoformer.text.translation_template import TranslationTemplate

__all__ = ["BertTemplate", "GptTemplate", "SeparatedTemplate", "TranslationTemplate"]
