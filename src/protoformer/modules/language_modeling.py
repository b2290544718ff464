"""The language model alone: tell each token from those before it (Radford et al. 2018, equation 1).

The loss is the mean over all tokens of a global batch. Logits are made and used chunk by chunk, never of the whole batch at
once. What a validation leaves behind is the loss, its perplexity, bits for each byte of the text (which compares models of
different vocabularies), and samples of what the model writes.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from protoformer.batches import LanguageBatch
from protoformer.blocks.kernels.linear_cross_entropy import linear_cross_entropy
from protoformer.decoding.generation import complete
from protoformer.decoding.sampling import SamplingParams
from protoformer.errors import ConfigurationError
from protoformer.models.backbone import Backbone
from protoformer.models.decoder import Decoder
from protoformer.modules.evaluation import EvalOutputs, Evaluation, Stage
from protoformer.modules.loss import Loss
from protoformer.modules.targets import places
from protoformer.modules.task_module import TaskModule
from protoformer.optim.optimization import Optimization


class Words(Protocol):
    """A tokenizer."""

    def encode(self, texts: Sequence[str]) -> list[list[int]]: ...

    def decode(self, ids: Sequence[int]) -> str: ...


class RunningText(Protocol):
    """Of a split: the bytes of text that a token stands for on average, and how to go on writing it."""

    bytes_per_token: float
    tokenizer: Words
    end: int


@dataclass(frozen=True)
class Sample:
    """What the model wrote after a prompt."""

    prompt: str
    text: str


@dataclass(frozen=True, kw_only=True)
class LanguageEvaluation(Evaluation):
    free_text = True

    samples: Sequence[Sample] = ()

    def rows(self) -> Iterator[dict[str, Any]]:
        for number, sample in enumerate(self.samples):
            yield {"id": number, "prediction": sample.text, "label": None, "prompt": sample.prompt}


class LanguageModule(TaskModule):
    """`prompts` are gone on with at every validation, by `sample_tokens` tokens each (0: by none), drawn at `temperature` from
    the `top_k` likeliest; the empty prompt is the beginning of a document. The score is the mean probability of a token
    (geometric: one over the perplexity)."""

    is_causal_lm = True

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
            raise ConfigurationError("a language model reads from left to right: choose a decoder, such as model=gpt2")
        if sample_tokens < 0:
            raise ConfigurationError(f"task.module.sample_tokens={sample_tokens}: 0 (no samples) or more")
        self.backbone: Decoder = backbone
        self.splits, self.prompts, self.sample_tokens = splits, list(prompts), sample_tokens
        self.sampling = SamplingParams(temperature=temperature, top_k=top_k)

    def forward(self, batch: LanguageBatch) -> tuple[Float[Tensor, "targets"], Tensor]:
        """The negative log likelihood of each target, and the row that it stands in."""
        hidden = self.backbone(batch["ids"], batch["padding_mask"])
        row, column = places(batch["target_ids"] >= 0)
        tokens = hidden.gather(row, column)
        losses = linear_cross_entropy(tokens, self.backbone.embeddings.token.weight, batch["target_ids"][row, column])
        return losses, row

    def dummy_batch(self, batch: int, seq: int) -> LanguageBatch:
        zeros = torch.zeros(batch, seq, dtype=torch.long)
        return LanguageBatch(
            ids=zeros,
            padding_mask=torch.ones(batch, seq, dtype=torch.bool),
            target_ids=zeros,
            example_ids=zeros[:, 0],
        )

    def flops(self, batch: LanguageBatch) -> Tensor:
        """The stack's, and the softmax's on every target."""
        told = (batch["target_ids"] >= 0).sum().double()
        return super().flops(batch) + 6.0 * self.backbone.embeddings.token.weight.numel() * told

    def loss(self, batch: LanguageBatch) -> Loss:
        losses, _ = self(batch)
        return Loss(losses.sum(), losses.new_tensor(float(len(losses))))

    def eval_step(self, batch: LanguageBatch) -> EvalOutputs:
        """Of each block, over all its rows: the sum of its losses, and how many there were."""
        losses, row = self(batch)
        blocks, place = torch.unique(batch["example_ids"], return_inverse=True)
        sums = torch.zeros(len(blocks), 2, dtype=torch.double, device=losses.device)
        sums.index_add_(0, place[row], torch.stack([losses.double(), torch.ones_like(losses).double()], dim=1))
        real = blocks >= 0
        return blocks[real], sums[real]

    def evaluate(self, stage: Stage, split: str, outputs: EvalOutputs) -> LanguageEvaluation:
        _, sums = outputs
        total, count = sums.sum(0).tolist()
        loss = total / max(1.0, count)
        text: RunningText = self.references[stage][split]
        return LanguageEvaluation(
            scores={"token_probability": math.exp(-loss)},
            other_metrics={
                "loss": loss,
                "perplexity": math.exp(min(loss, 700.0)),
                "bits_per_byte": loss / math.log(2.0) / text.bytes_per_token,
            },
            samples=self.samples(text) if self.global_rank == 0 else (),
        )

    def samples(self, text: RunningText, seed: int = 1) -> list[Sample]:
        """What the model writes after each prompt; the same weights write the same."""
        if not self.sample_tokens:
            return []
        encoded = text.tokenizer.encode(self.prompts)
        found = []
        for number, (prompt, ids) in enumerate(zip(self.prompts, encoded, strict=True)):
            (new,) = complete(
                self.backbone,
                [[text.end, *ids]],
                max_new_tokens=self.sample_tokens,
                sampling=self.sampling,
                eos_ids=[text.end],
                seed=seed + number,
            )
            found.append(Sample(prompt, text.tokenizer.decode(new)))
        return found
