"""DecoderEvaluationModule: a model of the next token that is evaluated as it is; nothing is trained."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from protoformer.batches import BatchT
from protoformer.errors import ConfigurationError
from protoformer.models.backbone import Backbone
from protoformer.models.decoder import Decoder
from protoformer.modules.evaluation import Stage
from protoformer.modules.logit_targets import EncodedQuery, LogitTarget, next_token_target
from protoformer.modules.task_module import ReferencesT, TaskModule
from protoformer.optim.optimization import Optimization


class DecoderEvaluationModule(TaskModule[BatchT, ReferencesT]):
    """The kinds differ in `eval_step` and `evaluate`. Raises ConfigurationError for a backbone that is no decoder."""

    is_causal_lm = True
    resumes_evaluation = True
    other_command = "; a language model continues texts: protoformer generate RUN --prompt TEXT"

    purpose: ClassVar[str]
    """What needs a model of the next token, for the message of that error."""

    backbone: Decoder

    def __init__(
        self, backbone: Backbone, splits: Mapping[Stage, Sequence[str]], optimization: Optimization | None
    ) -> None:
        super().__init__(optimization)
        if not isinstance(backbone, Decoder):
            raise ConfigurationError(f"{self.purpose} need a model of the next token: choose one, such as model=gpt2")
        self.backbone, self.splits = backbone, splits

    def logit_target(self, query: EncodedQuery) -> LogitTarget:
        return next_token_target(self.backbone, query)
