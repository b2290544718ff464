"""Causal language modelling: predict each token from those before it (Radford et al. 2018, equation 1).

The loss is the mean over all tokens of a global batch; logits are computed chunk by chunk, never of the whole batch at once. A
validation reports the loss, the perplexity, bits per byte of text (comparable between vocabularies), and generated samples.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from protoformer.batches import LanguageBatch
from protoformer.blocks.kernels.linear_cross_entropy import linear_cross_entropy
from protoformer.decoding.generation import complete
from protoformer.decoding.sampling import SamplingParams
from protoformer.distributed.sharding.units import full_weights
from protoformer.errors import ConfigurationError
from protoformer.models.backbone import Backbone
from protoformer.models.decoder import Decoder
from protoformer.modules.evaluation import EvalOutputs, Evaluation, PredictionRow, Sample, Stage
from protoformer.modules.logit_targets import EncodedQuery, LogitTarget, next_token_target
from protoformer.modules.objective.loss import Loss
from protoformer.modules.objective.targets import nonzero_indices, target_count
from protoformer.modules.task_module import TaskModule
from protoformer.optim.optimization import Optimization


class TextTokenizer(Protocol):
    def encode(self, texts: Sequence[str]) -> list[list[int]]: ...

    def decode(self, ids: Sequence[int]) -> str: ...

    def ids_without_token(self, rows: int) -> set[int]: ...


class LanguageReferences(Protocol):
    """What a split's evaluation needs: the mean number of bytes of a token, the tokenizer, and the id between documents."""

    bytes_per_token: float
    tokenizer: TextTokenizer
    end_id: int


@dataclass(frozen=True, kw_only=True)
class LanguageEvaluation(Evaluation):
    has_labels = False
    free_text = True
    headline = "perplexity"

    block_ids: Sequence[int] = ()
    sums: Sequence[tuple[float, float]] = ()  # of each block: -log P in nats, and tokens

    def rows(self) -> Iterator[PredictionRow]:
        for index, sample in enumerate(self.samples):
            yield {"id": index, "prediction": sample.text, "label": None, "prompt": sample.prompt}

    def example_ids(self) -> Sequence[int]:
        """Blocks of the held-out text."""
        return self.block_ids

    def example_sums(self) -> Mapping[str, Sequence[float]]:
        losses, tokens = zip(*self.sums, strict=True) if self.sums else ((), ())
        return {"log_likelihood": [-loss for loss in losses], "tokens": tokens}


class LanguageModule(TaskModule[LanguageBatch, LanguageReferences]):
    """At every validation each of `prompts` is continued by `sample_tokens` tokens (0: no samples), sampled at `temperature`
    from the `top_k` most probable; an empty prompt is the beginning of a document. The score is the geometric mean of the
    tokens' probabilities, 1 / perplexity."""

    is_causal_lm = True
    other_command = "; a language model continues texts: protoformer generate RUN --prompt TEXT"
    needs_training_split = (
        "and validates on a part of its training text; perplexity on other text: "
        "protoformer evaluate RUN task=lm/files 'source.files=[heldout.txt]'"
    )
    backbone: Decoder

    def __init__(
        self,
        *,
        backbone: Backbone,
        splits: Mapping[Stage, Sequence[str]],
        prompts: Sequence[str] = ("", ""),
        sample_tokens: int = 64,
        temperature: float = 0.8,
        top_k: int | None = 40,
        optimization: Optimization | None = None,
    ) -> None:
        super().__init__(optimization)
        if not isinstance(backbone, Decoder):
            raise ConfigurationError("a causal language model needs a decoder: choose one, such as model=gpt2")
        if sample_tokens < 0:
            raise ConfigurationError(f"task.module.sample_tokens={sample_tokens}: 0 (no samples) or more")
        self.backbone = backbone
        self.splits, self.prompts, self.sample_tokens = splits, list(prompts), sample_tokens
        self.sampling = SamplingParams(temperature=temperature, top_k=top_k)

    def forward(self, batch: LanguageBatch) -> tuple[Float[Tensor, "targets"], Int[Tensor, "targets"]]:
        """-log P of each target token, and its row in the batch."""
        hidden = self.backbone(batch["ids"], batch["padding_mask"], lengths=batch.get("lengths"))
        row, column = nonzero_indices(batch["target_ids"] >= 0, batch.get("target_count"))
        tokens = hidden.gather(row, column)
        return linear_cross_entropy(tokens, self.backbone.output_weight, batch["target_ids"][row, column]), row

    def logit_target(self, query: EncodedQuery) -> LogitTarget:
        return next_token_target(self.backbone, query)

    def dummy_batch(self, batch: int, seq: int) -> LanguageBatch:
        zeros = torch.zeros(batch, seq, dtype=torch.long)
        return LanguageBatch(
            ids=zeros,
            padding_mask=torch.ones(batch, seq, dtype=torch.bool),
            target_ids=zeros,
            example_ids=zeros[:, 0],
        )

    def flops(self, batch: LanguageBatch) -> Tensor:
        """Operations of the stack, and of the softmax at every target."""
        targets = target_count(batch)
        return super().flops(batch) + 6.0 * self.backbone.embeddings.token.weight.numel() * targets

    def loss(self, batch: LanguageBatch) -> Loss:
        losses, _ = self(batch)
        return Loss(losses.sum(), losses.new_full((), float(len(losses))))

    def eval_step(self, batch: LanguageBatch) -> EvalOutputs:
        """Id of each block, and (sum of losses, number of targets) over all its rows, `(blocks, 2)`."""
        token_losses, row = self(batch)
        # several rows may be parts of one block, whose sums they share
        block_ids, block_of_row = torch.unique(batch["example_ids"], return_inverse=True)
        sums = torch.zeros(len(block_ids), 2, dtype=torch.double, device=token_losses.device)
        pairs = torch.stack([token_losses.double(), torch.ones_like(token_losses).double()], dim=1)
        sums.index_add_(0, block_of_row[row], pairs)
        real = block_ids >= 0
        return block_ids[real], sums[real]

    def evaluate(self, stage: Stage, split: str, outputs: EvalOutputs) -> LanguageEvaluation:
        ids, sums = outputs
        total, count = sums.sum(0).tolist()
        loss = total / max(1.0, count)
        references = self.references[stage][split]
        return LanguageEvaluation(
            scores={"token_probability": math.exp(-loss)},
            other_metrics={
                "loss": loss,
                "perplexity": math.exp(min(loss, 700.0)),
                "bits_per_byte": loss / math.log(2.0) / references.bytes_per_token,
            },
            samples=self._samples_on_rank0(references),
            block_ids=ids.tolist(),
            sums=[(loss, tokens) for loss, tokens in sums.tolist()],
        )

    def _samples_on_rank0(self, references: LanguageReferences) -> Sequence[Sample]:
        if not self.sample_tokens:
            return ()
        with full_weights(self):  # of a sharded model: rank 0 alone computes
            return self.samples(references) if self.global_rank == 0 else ()

    def samples(self, references: LanguageReferences, seed: int = 1) -> list[Sample]:
        """A continuation of each prompt; the same weights generate the same."""
        if not self.sample_tokens:
            return []
        encoded = references.tokenizer.encode(self.prompts)
        never = references.tokenizer.ids_without_token(self.backbone.embeddings.token.num_embeddings)
        samples = []
        for index, (prompt, ids) in enumerate(zip(self.prompts, encoded, strict=True)):
            (new,) = complete(
                self.backbone,
                [[references.end_id, *ids]],
                max_new_tokens=self.sample_tokens,
                sampling=self.sampling,
                eos_ids=[references.end_id],
                suppressed_ids=never - {references.end_id},
                seed=seed + index,
            )
            samples.append(Sample(prompt, references.tokenizer.decode(new)))
        return samples
