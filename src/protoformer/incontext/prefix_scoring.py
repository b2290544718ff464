"""Log-likelihoods of continuations, where sequences that share a prefix run it once.

Sequences in lexicographic order walk their prefix tree depth first: each adds the tokens behind the prefix that it shares with
the one before. So every node of the tree is computed once, and the only keys and values in memory are those of the current
path, at most as many as the model has positions, and of one pass. A pass takes `tokens_per_pass` nodes at once, of as many
sequences as they are; each attends to its own ancestors (`blocks.kernels.tree_layout`). Hidden states are multiplied by the
output matrix where a continuation needs its next token alone, and once where several continuations need the same.

What all sequences of a call begin with, their shots, is run first, in chunks of a fixed size. Whole chunks are kept from call
to call: a batch of examples with the same shots runs them no second time, and has the same numbers to the bit as where it is
the first one of a continued evaluation. Other batches and orders change results by the rounding of floating-point sums.
"""

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, cast

import torch
from torch import Tensor

from protoformer.errors import DataError
from protoformer.incontext.paths import Chain, path_model
from protoformer.models.decoder import Decoder

TOKENS_PER_PASS = 512  # on a CPU; more would only make the mask between a pass's tokens larger
CHUNK = 32  # tokens of a common prefix that are run at once
LOGIT_ROWS = 256  # rows of logits in memory at a time: 51 MB with a vocabulary of 50,257


class Request(NamedTuple):
    """`ids[start:]` is a continuation, `ids[:start]` what it continues; neither is empty."""

    ids: Sequence[int]
    start: int


@dataclass(frozen=True)
class Likelihood:
    """log P of each token of a continuation, in nats, and whether each is the most probable token at its place.

    `allowed_log_probs` and `allowed_greedy` are the same among the tokens that are not suppressed, where any are.
    """

    log_probs: Sequence[float]
    greedy: Sequence[bool]
    allowed_log_probs: Sequence[float] = ()
    allowed_greedy: Sequence[bool] = ()

    @property
    def total(self) -> float:
        return sum(self.log_probs)

    @property
    def is_greedy(self) -> bool:
        """Whether greedy decoding would write this continuation."""
        return all(self.greedy)


@dataclass
class Reuse:
    """Tokens that the sequences have, and those that were computed for them."""

    requested: int = 0
    computed: int = 0

    @property
    def factor(self) -> float:
        return self.requested / max(1, self.computed)


@dataclass
class PrefixScorer:
    """A model and the path that it has read last. Likelihoods among tokens other than `suppressed_ids` come with the others."""

    model: Decoder
    tokens_per_pass: int = TOKENS_PER_PASS
    suppressed_ids: Collection[int] = ()
    reuse: Reuse = field(default_factory=Reuse)

    def __post_init__(self) -> None:
        if self.tokens_per_pass < 1:
            raise ValueError(f"tokens_per_pass {self.tokens_per_pass}: must be at least 1")
        self._path_model = path_model(self.model, self.tokens_per_pass)
        self._path: list[int] = []
        self._chunked = 0  # tokens of the path that were run in chunks
        weight = self.model.output_weight
        # of each token of the path: continuations may begin behind any of them
        self._hidden = weight.new_empty(self.model.max_seq_len, self.model.d_model)

    @torch.inference_mode()
    def score(self, requests: Sequence[Request]) -> list[Likelihood]:
        """The likelihood of each continuation, in order. Raises DataError for a sequence without context or too long."""
        results: dict[int, Likelihood] = {}
        for index, likelihood in self._in_tree_order(requests):
            results[index] = likelihood
        return [results[index] for index in range(len(requests))]

    def _in_tree_order(self, requests: Sequence[Request]) -> Iterator[tuple[int, Likelihood]]:
        for request in requests:
            self._check(request)
        # the last token is predicted, and read only where another sequence goes on behind it
        inputs = [list(request.ids[:-1]) for request in requests]
        order = sorted(range(len(requests)), key=lambda index: inputs[index])
        self.reuse.requested += sum(map(len, inputs))
        if inputs:
            self._run_common_prefix(inputs[order[0]], inputs[order[-1]])
        pending: list[int] = []  # sequences of the pass, in order
        chains: list[Chain] = []
        path, size = self._path, 0
        for index in order:
            branch = shared_length(path, inputs[index])
            tokens = inputs[index][branch:]
            # a long sequence is cut into passes; what does not fit into this one begins the next
            while size + len(tokens) > self.tokens_per_pass:
                capacity = self.tokens_per_pass - size
                if capacity:
                    chains.append(Chain(branch, tokens[:capacity]))
                    branch, tokens = branch + capacity, tokens[capacity:]
                yield from self._pass(chains, pending, requests)
                chains, pending, size = [], [], 0
            chains.append(Chain(branch, tokens))
            size += len(tokens)
            pending.append(index)
            path = inputs[index]
        yield from self._pass(chains, pending, requests)

    def _run_common_prefix(self, first: Sequence[int], last: Sequence[int]) -> None:
        """Let the path be the whole chunks that the first sequence in order shares with the last, and so with all."""
        size = min(CHUNK, self.tokens_per_pass)
        length = shared_length(first, last) // size * size
        kept = min(shared_length(self._path, first), length, self._chunked) // size * size
        self._path = self._path[:kept]
        for start in range(kept, length, size):
            list(self._pass([Chain(start, first[start : start + size])], [], []))
        self._chunked = length

    def _check(self, request: Request) -> None:
        if not 0 < request.start < len(request.ids):
            raise DataError(f"a continuation of {len(request.ids) - request.start} tokens behind {request.start}")
        if len(request.ids) - 1 > self.model.max_seq_len:
            raise DataError(
                f"a prompt and its answer have {len(request.ids)} tokens, and the model has {self.model.max_seq_len} positions"
            )

    def _pass(
        self, chains: Sequence[Chain], pending: Sequence[int], requests: Sequence[Request]
    ) -> Iterator[tuple[int, Likelihood]]:
        """Run chains, then score the sequences that end with them: the first ones are those of `pending`, in order."""
        if not chains:
            return
        new = self._path_model.run([chain for chain in chains if chain.ids]) if any(c.ids for c in chains) else None
        self.reuse.computed += 0 if new is None else len(new)
        hidden: list[Tensor] = []  # rows that targets need
        rows: dict[int, int] = {}  # node -> row
        needed: list[tuple[int, list[int], Sequence[int]]] = []  # sequence, row of each target, targets
        # nodes of the current sequence by depth: those of the path are negative
        nodes = [-1 - depth for depth in range(len(self._path))]
        ids = list(self._path)
        first = 0
        for number, chain in enumerate(chains):
            nodes = [*nodes[: chain.branch], *range(first, first + len(chain.ids))]
            ids = [*ids[: chain.branch], *chain.ids]
            first += len(chain.ids)
            if number == len(pending):  # the beginning of a sequence that goes on in the next pass
                break
            request = requests[pending[number]]
            target_nodes = nodes[request.start - 1 : len(request.ids) - 1]
            for node in target_nodes:
                if node not in rows:
                    rows[node] = len(rows)
                    hidden.append(self._hidden[-1 - node] if node < 0 else cast(Tensor, new)[node])
            needed.append((pending[number], [rows[node] for node in target_nodes], request.ids[request.start :]))
        yield from self._likelihoods(hidden, needed)
        self._keep(ids, nodes, new)

    def _keep(self, ids: list[int], nodes: Sequence[int], new: Tensor | None) -> None:
        """The hidden states of the last sequence become those of the path."""
        fresh = [(depth, node) for depth, node in enumerate(nodes) if node >= 0]
        if fresh and new is not None:
            depths, rows = zip(*fresh, strict=True)
            self._hidden[list(depths)] = new[list(rows)]
        self._path = ids

    def _likelihoods(
        self, hidden: Sequence[Tensor], needed: Sequence[tuple[int, list[int], Sequence[int]]]
    ) -> Iterator[tuple[int, Likelihood]]:
        if not needed:
            return
        row_of = torch.tensor([row for _, rows, _ in needed for row in rows])
        targets = torch.tensor([target for *_, ids in needed for target in ids])
        suppressed = torch.tensor(sorted(self.suppressed_ids), dtype=torch.long, device=self.model.output_weight.device)
        kinds = 2 if len(suppressed) else 1  # among all tokens, and among those that are not suppressed
        log_probs = torch.empty(kinds, len(targets), dtype=torch.double)
        greedy = torch.empty(kinds, len(targets), dtype=torch.bool)
        for start in range(0, len(hidden), LOGIT_ROWS):
            logits = self.model.logits(torch.stack(list(hidden[start : start + LOGIT_ROWS]))).float()
            inside = ((row_of >= start) & (row_of < start + LOGIT_ROWS)).nonzero().squeeze(1)
            rows, ids = (part[inside].to(logits.device) for part in (row_of - start, targets))
            for kind in range(kinds):
                if kind:
                    logits = logits.index_fill(-1, suppressed, -math.inf)
                # log softmax of the targets alone: logit minus the logarithm of the row's sum
                log_probs[kind, inside] = (logits[rows, ids].double() - logits.logsumexp(-1).double()[rows]).cpu()
                greedy[kind, inside] = (logits.argmax(-1)[rows] == ids).cpu()
        first = 0
        for index, rows_of_request, _ in needed:
            stop = first + len(rows_of_request)
            of_kinds = [
                (log_probs[kind, first:stop].tolist(), greedy[kind, first:stop].tolist()) for kind in range(kinds)
            ]
            yield index, Likelihood(*(part for each in of_kinds for part in each))
            first = stop


def shared_length(first: Sequence[int], second: Sequence[int]) -> int:
    """Length of the common beginning."""
    length = 0
    for one, other in zip(first, second, strict=False):
        if one != other:
            break
        length += 1
    return length
