"""Learning in context (arXiv 2005.14165, section 2.4): a task is described and shown by text alone; nothing is trained.

Completions are scored by their likelihood: of several choices the best one is the answer, a single right completion counts
where greedy decoding would write it. Or the model writes an answer. Texts that begin alike are run once (`incontext`).
"""

from collections.abc import Mapping, Sequence
from functools import cached_property

import torch

from protoformer.batches import PromptBatch
from protoformer.data.prompts.datamodule import InContextReferences
from protoformer.errors import ConfigurationError
from protoformer.incontext.answers import CACHED_TOKENS, AnswerParams, AnswerWriter
from protoformer.incontext.prefix_scoring import TOKENS_PER_PASS, PrefixScorer, Request
from protoformer.models.backbone import Backbone
from protoformer.modules.decoder_evaluation import DecoderEvaluationModule
from protoformer.modules.evaluation import EvalOutputs, Stage
from protoformer.modules.in_context.evaluation import InContextEvaluation, evaluate_scored
from protoformer.modules.in_context.last_words import last_word_values
from protoformer.modules.in_context.written import evaluate_answers
from protoformer.optim.optimization import Optimization
from protoformer.scoring.in_context import Metric
from protoformer.text.words.stop_words import STOP_WORDS


class InContextModule(DecoderEvaluationModule[PromptBatch, InContextReferences]):
    """`metrics` are the scores of the task: for choices an accuracy by one of the normalisations, for completions `accuracy`
    (greedy decoding writes the completion), for answers that the model writes `exact_match`, `f1` or `bleu`.

    An answer has at most `max_new_tokens` tokens (None: completions are scored, nothing is written). It is decoded greedily
    with `num_beams` 1, else by beam search, whose `length_penalty` is the exponent of lp(Y) in `decoding.beam`.
    `last_words`: completions are words, of which the last token and a filter of stop words are scored too (LAMBADA).
    Two keys bound memory and change no result. `tokens_per_pass` are the tokens that scoring runs at once, `cached_tokens`
    those whose keys and values greedy decoding keeps: it answers as many prompts at once as have no more.
    """

    purpose = "in-context tasks"

    def __init__(
        self,
        *,
        backbone: Backbone,
        splits: Mapping[Stage, Sequence[str]],
        metrics: Sequence[Metric],
        max_new_tokens: int | None = None,
        num_beams: int = 1,
        length_penalty: float = 0.6,
        last_words: bool = False,
        tokens_per_pass: int = TOKENS_PER_PASS,
        cached_tokens: int = CACHED_TOKENS,
        optimization: Optimization | None = None,
    ) -> None:
        super().__init__(backbone, splits, optimization)
        for name, value in (("tokens_per_pass", tokens_per_pass), ("cached_tokens", cached_tokens)):
            if value < 1:
                raise ConfigurationError(f"task.module.{name}={value}: at least 1")
        self.metrics = list(metrics)
        self.max_new_tokens, self.num_beams, self.length_penalty = max_new_tokens, num_beams, length_penalty
        self.last_words, self.tokens_per_pass, self.cached_tokens = last_words, tokens_per_pass, cached_tokens

    @cached_property
    def scorer(self) -> PrefixScorer:
        return PrefixScorer(self.backbone.eval(), self.tokens_per_pass, self._stop_word_ids())

    def _stop_word_ids(self) -> list[int]:
        """Tokens that are a stop word, where last words are scored; with or without the space before it."""
        if not self.last_words:
            return []
        references = next(each for splits in self.references.values() for each in splits.values())
        rows = min(references.tokenizer.vocab_size, self.backbone.embeddings.token.num_embeddings)
        return [id_ for id_ in range(rows) if references.tokenizer.decode([id_]).strip().lower() in STOP_WORDS]

    @cached_property
    def writer(self) -> AnswerWriter:
        assert self.max_new_tokens is not None
        references = next(each for splits in self.references.values() for each in splits.values())
        params = AnswerParams(
            self.max_new_tokens, references.stop_ids, self.num_beams, self.length_penalty, self.cached_tokens
        )
        never = references.tokenizer.ids_without_token(self.backbone.embeddings.token.num_embeddings)
        return AnswerWriter(self.backbone.eval(), params, never - set(references.stop_ids))

    def eval_step(self, batch: PromptBatch) -> EvalOutputs:
        """Numbers of sequences, and of each log P of its completion, tokens, and whether greedy decoding writes it; or the
        tokens of the answer behind its context, -1 behind their end."""
        sequences = [each for example in batch["sequences"] for each in example]
        numbers = torch.tensor([each.number for each in sequences], dtype=torch.long)
        if self.max_new_tokens is not None:
            answers = torch.full((len(sequences), self.max_new_tokens), -1)
            for row, tokens in enumerate(self.writer.answer([each.ids[: each.start] for each in sequences])):
                answers[row, : len(tokens)] = torch.tensor(tokens)
            return numbers, answers
        likelihoods = self.scorer.score([Request(each.ids, each.start) for each in sequences])
        values = [
            [each.total, len(each.log_probs), each.is_greedy, *(last_word_values(each) if self.last_words else ())]
            for each in likelihoods
        ]
        return numbers, torch.tensor(values, dtype=torch.double).view(-1, 7 if self.last_words else 3)

    @property
    def evaluation_details(self) -> Sequence[str]:
        """How often a token of the prompts is used for each time it is run."""
        return [] if self.max_new_tokens is not None else [f"reuse {self.scorer.reuse.factor:.1f}"]

    def evaluate(self, stage: Stage, split: str, outputs: EvalOutputs) -> InContextEvaluation:
        numbers, values = outputs
        references = self.references[stage][split]
        if self.max_new_tokens is not None:
            return evaluate_answers(references, numbers, values, self.metrics)
        return evaluate_scored(references, numbers, values, self.metrics)
