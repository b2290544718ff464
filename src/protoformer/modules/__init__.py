"""A LightningModule for each kind of task. The task's yaml names the class."""

from protoformer.modules.classification import ClassificationModule
from protoformer.modules.language_modeling import LanguageModule
from protoformer.modules.multiple_choice import MultipleChoiceModule
from protoformer.modules.pretraining import PretrainingModule
from protoformer.modules.span import SpanModule
from protoformer.modules.translation import TranslationModule

__all__ = [
    "ClassificationModule",
    "LanguageModule",
    "MultipleChoiceModule",
    "PretrainingModule",
    "SpanModule",
    "TranslationModule",
]
