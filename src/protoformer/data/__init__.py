"""Data: sources, examples, batching, corpora, and a LightningDataModule for each kind of task. yaml names what stands here."""

from protoformer.data.corpus.masking import MaskedTokens, NextTokens
from protoformer.data.datamodules.classification import ClassificationDataModule
from protoformer.data.datamodules.language_modeling import LanguageModelingDataModule
from protoformer.data.datamodules.multiple_choice import MultipleChoiceDataModule
from protoformer.data.datamodules.pretraining import PretrainingDataModule
from protoformer.data.datamodules.span import SpanDataModule
from protoformer.data.datamodules.translation import TranslationDataModule
from protoformer.data.examples.documents import Corpus
from protoformer.data.examples.extractive_qa import ExtractiveQAReader
from protoformer.data.examples.labelled import LabelledTextReader
from protoformer.data.examples.multiple_choice import MultipleChoiceReader
from protoformer.data.examples.parallel_text import ParallelTextReader
from protoformer.data.learned_vocabulary import LearnedVocabulary
from protoformer.data.prompts.datamodule import InContextDataModule
from protoformer.data.prompts.reader import PromptReader
from protoformer.data.running_text.datamodule import PerplexityDataModule
from protoformer.data.running_text.reader import RunningTextReader
from protoformer.data.sources.files import FilesSource
from protoformer.data.sources.hub import HubSource
from protoformer.data.sources.local import LocalSource
from protoformer.data.sources.parallel import ParallelSource
from protoformer.data.sources.sample import SampleSource

__all__ = [
    "ClassificationDataModule",
    "Corpus",
    "ExtractiveQAReader",
    "FilesSource",
    "HubSource",
    "InContextDataModule",
    "LabelledTextReader",
    "LanguageModelingDataModule",
    "LearnedVocabulary",
    "LocalSource",
    "MaskedTokens",
    "MultipleChoiceDataModule",
    "MultipleChoiceReader",
    "NextTokens",
    "ParallelSource",
    "ParallelTextReader",
    "PerplexityDataModule",
    "PretrainingDataModule",
    "PromptReader",
    "RunningTextReader",
    "SampleSource",
    "SpanDataModule",
    "TranslationDataModule",
]
