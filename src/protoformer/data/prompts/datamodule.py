"""Data module for learning in context (arXiv 2005.14165, section 2.4): an example behind K solved ones, as one text.

A draw of shots is K examples of `shots_split`, the same for all examples of the evaluated split, so that their tokens are run
once; another draw takes others. Where the split is the one that is evaluated, an example that is itself a shot gets another in
its place.

Differs: the paper draws shots for each example anew; `shots_per: example` does that.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import ClassVar, Literal, NamedTuple

from protoformer.batches import PromptBatch
from protoformer.data.batching.loader import BatchLoader
from protoformer.data.batching.samplers import BatchConfig
from protoformer.data.datamodules.context import DataContext
from protoformer.data.datamodules.table import TableDataModule, skipped_stats, stat_lines
from protoformer.data.examples.columns import OnBadRow
from protoformer.data.prompts.batches import PromptCollate, TreeOrder
from protoformer.data.prompts.examples import PromptExample
from protoformer.data.prompts.reader import AnswerType, PromptReader
from protoformer.data.prompts.rendering import prompt_texts
from protoformer.data.prompts.shots import ShotPool
from protoformer.data.prompts.table import Prompt, PromptTable, PromptTableBuilder
from protoformer.data.selection import SplitSelection
from protoformer.data.sources.source import RawTable, Role
from protoformer.errors import AbsentSplitError, ConfigurationError, DataError
from protoformer.text.prompts.pairs import EncodedPair, encode_pairs
from protoformer.text.tokenizers import Tokenizer

OnOverflow = Literal["drop_shots", "error"]
log = logging.getLogger(__name__)


class InContextReferences(NamedTuple):
    """What an evaluation needs beside log-likelihoods and written answers."""

    table: PromptTable
    examples: Mapping[tuple[int, int], PromptExample]  # by row and turn
    answer_type: AnswerType
    has_unconditional: bool
    tokenizer: Tokenizer
    stop_ids: frozenset[int]  # tokens that end an answer
    signature: str  # which templates and which shots: version, number, split, seed
    values: Sequence[float] | None  # the numbers that choices stand for

    def example(self, number: int) -> PromptExample:
        """The example that row `number` of the table is made of."""
        return self.examples[self.table.key(number)]


class InContextDataModule(TableDataModule[PromptTable]):
    """Its reader is a PromptReader; the model's template names the token that separates documents.

    `shots` are the solved examples in front of each prompt, taken from `shots_split`. `draws` is the number of draws of
    shots, each of which evaluates the whole split (without shots: one); `shots_seed` draws them. `shots_per` says whether
    the shots of a draw are the same for all examples, or drawn for each example. A prompt that is longer than the model's
    positions loses shots from the left, then the beginning of its context, both counted; `on_overflow` "error" makes that
    an error. `unconditional` is a context without content, such as "Answer:", behind which completions are also scored
    (arXiv 2005.14165, section 2.4). `max_new_tokens` positions are left for an answer that the model writes (None: it
    writes none). An answer ends before the first token with `stop` in it.
    """

    template_method: ClassVar[str] = "document_end_id"
    table_class = PromptTable
    left_to_right = True
    incomplete_data: ClassVar[Mapping[str, str]] = {
        "truncated": "truncated prompts",
        "dropped": "prompts with fewer shots",
        "skipped": "rows left out",
    }

    def __init__(
        self,
        context: DataContext,
        *,
        shots: int = 0,
        draws: int = 1,
        shots_split: str | None = None,
        shots_seed: int = 0,
        shots_per: Literal["draw", "example"] = "draw",
        on_overflow: OnOverflow = "drop_shots",
        unconditional: str | None = None,
        max_new_tokens: int | None = None,
        stop: str = "\n",
        on_bad_row: OnBadRow = "error",
    ) -> None:
        super().__init__(context, on_bad_row=on_bad_row)
        self.shots, self.shots_split, self.shots_seed = shots, shots_split, shots_seed
        self.draws = draws if shots else 1  # without shots all draws are alike
        self.shots_per, self.on_overflow, self.unconditional = shots_per, on_overflow, unconditional
        self.max_new_tokens, self.stop = max_new_tokens, stop
        if (self.prompt_reader.answer_type == "text") != (max_new_tokens is not None):
            raise ConfigurationError(
                "task.data.max_new_tokens: set it where the model writes its answer (task.rows.answers), and there alone"
            )
        if shots and shots_split is None:
            raise ConfigurationError(
                f"task.shots={shots}: this data set has no split to take shots from; use task.shots=0"
            )
        if draws > self.draws:
            log.info("task.draws=%d: without shots all draws are alike; one is evaluated", draws)

    @property
    def prompt_reader(self) -> PromptReader:
        assert isinstance(self.reader, PromptReader)
        return self.reader

    @property
    def signature(self) -> str:
        """What decides the prompts, in the form of sacreBLEU's signatures."""
        parts = [f"version:{self.prompt_reader.version}", f"shots:{self.shots}"]
        if self.shots:
            parts += [f"split:{self.shots_split}", f"draws:{self.draws}", f"seed:{self.shots_seed}"]
            parts += [f"shots_per:{self.shots_per}"]
        return "|".join(parts)

    def shots_raw(self) -> RawTable | None:
        """The rows that shots are drawn from."""
        if not self.shots or self.shots_split is None:
            return None
        try:
            return SplitSelection.parse(self.shots_split).load(self.source, self.reader)
        except AbsentSplitError as error:
            raise AbsentSplitError(
                f"task.shots={self.shots} from task.data.shots_split={self.shots_split}: {error}"
            ) from None

    def cache_settings(self) -> dict[str, object]:
        raw = self.shots_raw()
        return {
            "shots": [self.shots, self.draws, self.shots_seed, self.shots_per, raw.digest if raw else None],
            "on_overflow": self.on_overflow,
            "unconditional": self.unconditional,
            "max_new_tokens": self.max_new_tokens,
        }

    def encode(self, raw: RawTable, role: Role) -> PromptTable:
        read = self.prompt_reader.read(raw, role, self.on_bad_row)
        builder = PromptTableBuilder()
        for draw, prompts in enumerate(self.prompts(raw, read.examples)):
            for prompt, pairs in prompts:
                builder.add(prompt, pairs, self._unconditional_pairs(prompt.example), draw)
        stats = {**builder.stats, **skipped_stats(read.skipped, read.reasons)}
        return builder.table(stats)

    def prompts(
        self, raw: RawTable, examples: Sequence[PromptExample]
    ) -> Iterator[list[tuple[Prompt, list[EncodedPair]]]]:
        """Of each draw of shots the prompts of these examples, which are made of rows of `raw`."""
        pool = self._shot_pool(raw, examples)
        for draw in range(self.draws):
            prompts = [Prompt(each, pool.draw(self._seed(each, draw), each.row) if pool else []) for each in examples]
            yield list(zip(prompts, self._encode(raw, prompts), strict=True))

    def _shot_pool(self, raw: RawTable, examples: Sequence[PromptExample]) -> ShotPool | None:
        shots_raw = self.shots_raw()
        if shots_raw is None:
            return None
        seeds = {self._seed(example, draw) for draw in range(self.draws) for example in examples}
        own_split = shots_raw.digest == raw.digest
        return ShotPool(self.prompt_reader, shots_raw, self.shots, seeds, self.on_bad_row, own_split=own_split)

    def _seed(self, example: PromptExample, draw: int) -> str:
        return f"shots/{self.shots_seed}/{draw}" + (f"/{example.row}" if self.shots_per == "example" else "")

    def _texts(self, prompt: Prompt, shots: int) -> list[str]:
        """The text in front of each completion, with the last `shots` shots."""
        return prompt_texts(self.prompt_reader, prompt.example, prompt.shots[len(prompt.shots) - shots :])

    def _encode(self, raw: RawTable, prompts: Sequence[Prompt]) -> list[list[EncodedPair]]:
        """The sequences of each prompt, no longer than the model reads."""
        texts = [text for prompt in prompts for text in self._texts(prompt, len(prompt.shots))]
        completions = [text for prompt in prompts for text in prompt.example.completions]
        pairs = iter(encode_pairs(self.tokenizer, texts, completions, self.template.document_end_id()))
        encoded = []
        for prompt in prompts:
            own = [next(pairs) for _ in prompt.example.completions]
            while max(map(self._positions, own)) > self.max_len and prompt.used:
                prompt.used -= 1
                own = encode_pairs(
                    self.tokenizer,
                    self._texts(prompt, prompt.used),
                    prompt.example.completions,
                    self.template.document_end_id(),
                )
            if max(map(self._positions, own)) > self.max_len:
                prompt.truncated = True
                own = [self._truncated(pair, raw.location(prompt.example.row)) for pair in own]
            if self.on_overflow == "error" and (prompt.truncated or prompt.used < len(prompt.shots)):
                raise DataError(
                    f"{raw.location(prompt.example.row)}: its prompt is longer than the {self.max_len} tokens that the model "
                    "reads; task.on_overflow=drop_shots leaves out shots, then the beginning, or set a smaller task.shots"
                )
            encoded.append(own)
        return encoded

    def _positions(self, pair: EncodedPair) -> int:
        """Positions that a sequence takes: its last token is only predicted."""
        return (len(pair.ids) if self.max_new_tokens is None else pair.start + self.max_new_tokens) - 1

    def _truncated(self, pair: EncodedPair, location: str) -> EncodedPair:
        """Without the beginning of the context, so that the completion stays whole."""
        excess = self._positions(pair) - self.max_len
        if excess <= 0:
            return pair
        if excess >= pair.start:
            count = len(pair.ids) - pair.start if self.max_new_tokens is None else self.max_new_tokens
            raise DataError(
                f"{location}: a completion of {count} tokens is longer than the {self.max_len} that the model reads"
            )
        return pair._replace(ids=pair.ids[excess:], start=pair.start - excess)

    def _unconditional_pairs(self, example: PromptExample) -> list[EncodedPair]:
        if self.unconditional is None:
            return []
        contexts = [self.unconditional] * len(example.completions)
        return encode_pairs(self.tokenizer, contexts, example.completions, self.template.document_end_id())

    def references(self, role: Role, split: str) -> InContextReferences:
        examples = self.prompt_reader.read(self.raw(role, split), role, self.on_bad_row).examples
        return InContextReferences(
            table=self.tables[role][split],
            examples={each.key: each for each in examples},
            answer_type=self.prompt_reader.answer_type,
            has_unconditional=self.unconditional is not None,
            tokenizer=self.tokenizer,
            signature=self.signature,
            values=self.prompt_reader.values,
            stop_ids=self._stop_ids if self.max_new_tokens is not None else frozenset(),
        )

    @cached_property
    def _stop_ids(self) -> frozenset[int]:
        """Tokens with the stop string in their text, and the end of a document."""
        texts = enumerate(self.tokenizer.decode([token]) for token in range(self.tokenizer.vocab_size))
        return frozenset({self.template.document_end_id(), *(token for token, text in texts if self.stop in text)})

    def text_columns(self, role: Role, split: str) -> Mapping[str, Sequence[object]]:
        """The context without shots, and the completions, of every example under every draw."""
        examples = self.prompt_reader.read(self.raw(role, split), role, self.on_bad_row).examples
        contexts = [list(dict.fromkeys(each.contexts)) for each in examples]
        return {
            "context": [texts[0] if len(texts) == 1 else texts for texts in contexts] * self.draws,
            "completions": [list(each.completions) for each in examples] * self.draws,
        }

    def passages(self, role: Role, split: str) -> Sequence[str]:
        """The group of each example under every draw."""
        examples = self.prompt_reader.read(self.raw(role, split), role, self.on_bad_row).examples
        return [each.group for each in examples] * self.draws

    def log_lines(self, table: PromptTable) -> list[str]:
        left = "" if table.shots_left is None else f", {table.shots_left:.1f} on average"
        return stat_lines(
            table,
            truncated=(len(table), f"prompts truncated to {self.max_len} tokens"),
            dropped=(
                len(table),
                f"prompts have fewer than {self.shots} shots{left}: the model has {self.max_len} positions",
            ),
            skipped=(len(table) + table.stats.get("skipped", 0), "examples left out as unusable"),
            merged=(len(table), "prompts in which a token crosses the boundary to the completion"),
        )

    def collate(self, table: PromptTable) -> Callable[[list[int]], PromptBatch]:
        return PromptCollate(table)

    def _loader(self, table: PromptTable, config: BatchConfig, *, shuffle: bool) -> BatchLoader:
        return BatchLoader(TreeOrder(table, config), self.collate(table), config.workers)
