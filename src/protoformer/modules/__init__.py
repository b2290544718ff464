"""A LightningModule for each kind of task. The task's yaml names the class."""

from protoformer.modules.in_context.module import InContextModule
from protoformer.modules.kinds.classification import ClassificationModule
from protoformer.modules.kinds.language_modeling import LanguageModule
from protoformer.modules.kinds.multiple_choice import MultipleChoiceModule
from protoformer.modules.kinds.pretraining import PretrainingModule
from protoformer.modules.kinds.span import SpanModule
from protoformer.modules.kinds.translation import TranslationModule
from protoformer.modules.perplexity.module import PerplexityModule

__all__ = [
    "ClassificationModule",
    "InContextModule",
    "LanguageModule",
    "MultipleChoiceModule",
    "PerplexityModule",
    "PretrainingModule",
    "SpanModule",
    "TranslationModule",
]
