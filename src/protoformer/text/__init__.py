"""Tokenizers, and input templates: how a model family writes an example down as ids. yaml names the templates."""

from protoformer.text.templates import BertFormat, GptFormat, SeparatedFormat
from protoformer.text.translation_template import TranslationFormat

__all__ = ["BertFormat", "GptFormat", "SeparatedFormat", "TranslationFormat"]
