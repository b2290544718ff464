"""Prompts as texts: a description, shots and an example's contexts, one behind another."""

from collections.abc import Sequence

from protoformer.data.prompts.examples import PromptExample
from protoformer.data.prompts.reader import PromptReader


def prompt_texts(reader: PromptReader, example: PromptExample, shots: Sequence[str]) -> list[str]:
    """The text in front of each completion of an example."""
    head = [reader.description] if reader.description else []
    return [reader.separator.join([*head, *shots, context]) for context in example.contexts]
