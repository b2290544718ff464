"""Log-likelihoods over shared prefixes: equal to those of plain forward passes, for every kind of decoder."""

import random
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch.nn import functional

from protoformer.blocks.kernels.cache import Cache
from protoformer.errors import DataError
from protoformer.incontext.paths import KeyValuePath, StatePath
from protoformer.incontext.prefix_scoring import CHUNK, LOGIT_ROWS, PrefixScorer, Request
from protoformer.models.cnn import cnn
from protoformer.models.decoder import Decoder
from protoformer.models.gpt import gpt
from protoformer.models.rnn import rnn
from protoformer.scoring.in_context import NORMALIZATIONS, Normalization, choose

VOCAB, POSITIONS = 11, 48
SIZES = {"vocab_size": VOCAB, "d_model": 32, "n_layers": 2, "max_seq_len": POSITIONS}
GPT = {**SIZES, "n_heads": 4, "d_ff": 64}
MODELS = {
    "gpt": lambda: gpt(**GPT),
    "gpt2": lambda: gpt(**GPT, norm="pre"),
    "gpt3": lambda: gpt(**GPT, norm="pre", attention=["dense", "banded"], band=5),
    "rotary": lambda: gpt(**GPT, positions="rotary"),
    "rnn": lambda: rnn(**SIZES, architecture="decoder"),
    "gru": lambda: rnn(**SIZES, architecture="decoder", cell="gru"),
    "cnn": lambda: cnn(**SIZES, architecture="decoder"),
    "dilated": lambda: cnn(**SIZES, architecture="decoder", kind="dilated"),
}


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> Decoder:
    built = MODELS[request.param]().eval()
    assert isinstance(built, Decoder)
    return built


def tree(draw: random.Random, count: int) -> list[Request]:
    """Requests that branch off each other anywhere; some are equal, some are beginnings of others."""
    pool = [[draw.randrange(VOCAB)]]
    requests = []
    for _ in range(count):
        base = draw.choice(pool)
        ids = [*base[: draw.randint(1, len(base))], *(draw.randrange(VOCAB) for _ in range(draw.randint(1, 12)))]
        pool.append(ids[: POSITIONS + 1])
        requests.append(Request(pool[-1], draw.randint(1, len(pool[-1]) - 1)))
    return requests


def plain(model: Decoder, request: Request) -> tuple[list[float], list[bool]]:
    """log P of each token of a continuation by one forward pass, and whether it is the most probable."""
    ids = torch.tensor([list(request.ids)])
    with torch.inference_mode():
        hidden = model(ids[:, :-1], torch.ones_like(ids[:, :-1], dtype=torch.bool)).to_padded()[0]
        log_probs = functional.log_softmax(model.logits(hidden).double(), -1)
    targets = ids[0, 1:]
    of_targets = log_probs[torch.arange(len(targets)), targets]
    first = request.start - 1
    return of_targets[first:].tolist(), (log_probs.argmax(-1) == targets)[first:].tolist()


def nodes(sequences: Sequence[Sequence[int]]) -> int:
    """Different beginnings of sequences: the nodes of their prefix tree."""
    return len({tuple(ids[:length]) for ids in sequences for length in range(1, len(ids) + 1)})


@pytest.mark.parametrize("tokens_per_pass", [1, 5, 64])
def test_random_trees_equal_plain_passes_whatever_the_pass_and_the_calls_before(
    model: Decoder, tokens_per_pass: int
) -> None:
    draw = random.Random(tokens_per_pass)
    scorer = PrefixScorer(model, tokens_per_pass)
    for _ in range(2 if tokens_per_pass == 1 else 3):  # the second call begins behind the path of the first
        requests = tree(draw, 10 if tokens_per_pass == 1 else 25)  # a pass for each token takes its time
        for request, likelihood in zip(requests, scorer.score(requests), strict=True):
            log_probs, greedy = plain(model, request)
            assert likelihood.log_probs == pytest.approx(log_probs, abs=5e-6)
            assert list(likelihood.greedy) == greedy


def test_each_node_of_the_tree_is_computed_once() -> None:
    requests = tree(random.Random(0), 60)
    scorer = PrefixScorer(MODELS["gpt2"]().eval())
    scorer.score(requests)
    assert scorer.reuse.computed == nodes([request.ids[:-1] for request in requests])
    assert scorer.reuse.requested == sum(len(request.ids) - 1 for request in requests)
    assert scorer.reuse.factor > 1.5


def test_shots_are_not_run_again_in_the_next_batch() -> None:
    draw = random.Random(1)
    count = CHUNK + 5
    shots = [draw.randrange(VOCAB) for _ in range(count)]
    batches = [
        [Request([*shots, first, 1, 2], count + 1), Request([*shots, first, 3], count + 1)] for first in range(VOCAB)
    ]
    model = MODELS["gpt2"]().eval()
    scorer = PrefixScorer(model)
    likelihoods = [scorer.score(batch) for batch in batches]
    assert (
        scorer.reuse.computed == CHUNK + 7 * VOCAB
    )  # whole chunks of the shots once, then of each batch `first` and 1
    again = PrefixScorer(model)  # an evaluation that is continued there, to the bit
    assert [again.score(batch) for batch in batches[3:]] == likelihoods[3:]


def test_a_batch_with_other_shots_has_its_own_numbers() -> None:
    model = MODELS["gpt2"]().eval()
    scorer = PrefixScorer(model)
    for length in (CHUNK + 9, CHUNK, 0, CHUNK + 1):
        shots = [1 + number % 7 if number < CHUNK else number % 5 for number in range(length)]
        batch = [Request([*shots, first, 2, 3], length + 1) for first in range(5)]
        assert scorer.score(batch) == PrefixScorer(model).score(batch)


def test_choices_of_one_token_take_one_row_of_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    model = MODELS["gpt2"]().eval()
    rows = []
    logits = model.logits
    monkeypatch.setattr(model, "logits", lambda hidden: rows.append(len(hidden)) or logits(hidden))
    requests = [Request([1, 2, 3, choice], 3) for choice in range(VOCAB)]
    likelihoods = PrefixScorer(model).score(requests)
    assert rows == [1]
    assert sum(torch.tensor([each.total for each in likelihoods]).exp()) == pytest.approx(1.0, abs=1e-5)


def test_batches_and_order_change_no_answer(model: Decoder) -> None:
    draw = random.Random(2)
    requests = tree(draw, 40)
    whole = PrefixScorer(model).score(requests)
    order = list(range(len(requests)))
    draw.shuffle(order)
    scorer = PrefixScorer(model, tokens_per_pass=7)
    for start in range(0, len(order), 3):
        batch = order[start : start + 3]
        for index, likelihood in zip(batch, scorer.score([requests[index] for index in batch]), strict=True):
            assert likelihood.total == pytest.approx(whole[index].total, abs=2e-5)
            assert likelihood.is_greedy == whole[index].is_greedy


@pytest.mark.parametrize("tokens_per_pass", [5, 32])
@pytest.mark.parametrize("name", ["gpt2", "gru", "dilated"])
def test_memory_is_bounded_by_the_positions_and_one_pass(
    name: str, tokens_per_pass: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model: Any = MODELS[name]().eval()
    bound = POSITIONS + tokens_per_pass
    cached, states, logit_rows = [0], [0], [0]
    advance, step, logits = Cache.advance, StatePath._step, model.logits

    def counting_advance(self: Cache, *arguments: Any) -> int:
        cached.append(advance(self, *arguments))
        return cached[-1]

    def counting_step(self: StatePath, *arguments: Any) -> Any:
        hidden = step(self, *arguments)
        states.append(len(self.states))
        return hidden

    monkeypatch.setattr(Cache, "advance", counting_advance)
    monkeypatch.setattr(StatePath, "_step", counting_step)
    monkeypatch.setattr(model, "logits", lambda hidden: logit_rows.append(len(hidden)) or logits(hidden))
    scorer = PrefixScorer(model, tokens_per_pass)
    draw = random.Random(tokens_per_pass)
    for count in (40, 7):
        requests = tree(draw, count)
        assert nodes([request.ids[:-1] for request in requests]) > (bound if count > 7 else 0)  # more than fits
        scorer.score(requests)
        if isinstance(path := scorer._path_model, KeyValuePath):
            assert all(cache.length <= POSITIONS for cache in path.caches)
            assert all(cache.keys.shape[2] == bound for cache in path.caches)
    assert 0 < max(cached) <= bound
    assert max(states) <= POSITIONS
    assert max(logit_rows) <= LOGIT_ROWS


def test_budgets_change_no_choice() -> None:
    model = gpt(**GPT, norm="pre", init_std=0.3).eval()
    draw = random.Random(3)
    examples, choices = 16, 4
    requests = []
    for _ in range(examples):
        context = [draw.randrange(VOCAB) for _ in range(draw.randint(1, 20))]
        ends = [[draw.randrange(VOCAB) for _ in range(draw.randint(1, 6))] for _ in range(choices)]
        requests += [Request([*context, *end], len(context)) for end in ends]
        requests += [Request([0, *end], 1) for end in ends]
    gold = torch.tensor([draw.randrange(choices) for _ in range(examples)])
    chosen: dict[Normalization, list[torch.Tensor]] = {}
    for tokens_per_pass in (7, 512):
        likelihoods = PrefixScorer(model, tokens_per_pass).score(requests)
        totals = torch.tensor([each.total for each in likelihoods], dtype=torch.double).view(examples, 2, choices)
        tokens = torch.tensor([len(each.log_probs) for each in likelihoods]).view(examples, 2, choices)[:, 0]
        for name in NORMALIZATIONS:
            chosen.setdefault(name, []).append(choose(totals[:, 0], tokens, tokens * 3, totals[:, 1], name))
    for first, *others in chosen.values():
        assert all(each.equal(first) for each in others)
        assert len(set(first.tolist())) > 1
        assert len({float((each == gold).float().mean()) for each in (first, *others)}) == 1


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (Request([1, 2], 0), "a continuation of 2 tokens behind 0"),
        (Request([1, 2], 2), "a continuation of 0 tokens behind 2"),
        (Request([1] * (POSITIONS + 2), 3), "have 50 tokens, and the model has 48 positions"),
    ],
)
def test_sequences_that_cannot_be_scored_are_refused(request_: Request, message: str) -> None:
    with pytest.raises(DataError, match=message):
        PrefixScorer(MODELS["gpt2"]().eval()).score([request_])


def test_a_pass_has_at_least_one_token() -> None:
    with pytest.raises(ValueError, match="tokens_per_pass 0"):
        PrefixScorer(MODELS["gpt2"]().eval(), 0)
