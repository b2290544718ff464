"""What the texts of a prompt reader's configuration mean."""

from collections.abc import Sequence
from dataclasses import dataclass

from protoformer.data.prompts.fields import Span, Turns
from protoformer.text.prompts.template import Template


@dataclass(frozen=True)
class PromptParts:
    """Templates, and the fields that columns hold indirectly."""

    contexts: Sequence[Template]
    choices: Sequence[Template]
    completion: Template | None
    earlier: Template | None
    span: Span | None
    turns: Turns | None

    @property
    def columns(self) -> list[str]:
        """The columns that are read, and the fields of choices and answers."""
        given = {"before", "after"} if self.span else set()
        given |= {"question", "history"} if self.turns else set()
        given |= {"history"} if self.earlier else set()
        templates = [*self.contexts, *self.choices, *filter(None, [self.completion, self.earlier])]
        named = [name for template in templates for name in template.columns if name not in given]
        return [*named, *(self.span.columns if self.span else []), *(self.turns.columns if self.turns else [])]
