"""Cached beam search of a batch, against an uncached search of each source and against `transformers`."""

import itertools
from pathlib import Path

import pytest
import torch
import transformers
from torch import nn

from protoformer.decoding.beam import BeamParams
from protoformer.decoding.seq2seq import (
    EncoderDecoderSession,
    Seq2SeqParams,
    batches_by_length,
    best_tokens,
    generate_targets,
)
from protoformer.errors import ConfigurationError
from protoformer.models import weights
from protoformer.models.encoder_decoder import EncoderDecoder
from protoformer.models.hf.marian import MarianWeights
from protoformer.models.transformer import transformer

START, END, VOCAB = 1, 2, 30
LENGTHS = (7, 3, 1, 9, 5, 3)


def model(seed: int = 0, **settings: object) -> EncoderDecoder:
    torch.manual_seed(seed)
    ours = transformer(
        vocab_size=VOCAB, d_model=16, n_layers=2, n_heads=2, d_ff=32, max_seq_len=20, output_bias=True,
        **settings,  # type: ignore[arg-type]
    )  # fmt: skip
    for name, parameter in ours.eval().named_parameters():  # sharp enough that no two hypotheses score the same
        nn.init.normal_(parameter, mean=float("norm" in name and name.endswith("weight")), std=0.25)
    with torch.no_grad():
        ours.bias[END] = 2.0  # type: ignore[index]  # so that targets end at different lengths
    return ours


def sources() -> tuple[torch.Tensor, torch.Tensor]:
    mask = torch.arange(max(LENGTHS))[None] < torch.tensor(LENGTHS)[:, None]
    return torch.randint(3, VOCAB, mask.shape), mask


def plain_search(model: EncoderDecoder, source: list[int], params: Seq2SeqParams) -> list[tuple[list[int], float]]:
    """Beam search of one source as in a textbook, without caches."""
    beam, limit = params.beam, min(len(source) + params.max_extra_tokens, model.max_seq_len)
    ids = torch.tensor([source])
    memory = model.encode(ids, torch.ones_like(ids, dtype=torch.bool))
    alive: list[tuple[list[int], float]] = [([], 0.0)]
    finished: list[tuple[list[int], float]] = []
    for length in itertools.count(1):
        candidates = []
        for tokens, score in alive:
            target = torch.tensor([[params.start_id, *tokens]])
            hidden = model.decode(target, torch.ones_like(target, dtype=torch.bool), memory)
            logits = model.logits(hidden.to_padded()[0, -1])
            logits[list(params.suppressed_ids)] = -torch.inf
            candidates += [
                ([*tokens, token], score + log_prob) for token, log_prob in enumerate(logits.log_softmax(-1).tolist())
            ]
        candidates = sorted(candidates, key=lambda candidate: -candidate[1])[: 2 * beam.num_beams]
        ended = [tokens[-1] == params.end_id or length >= limit for tokens, _ in candidates]
        penalty = beam.penalty(length)
        finished += [
            (tokens, score / penalty)
            for (tokens, score), done in list(zip(candidates, ended, strict=True))[: beam.num_beams]
            if done
        ]
        finished = sorted(finished, key=lambda hypothesis: -hypothesis[1])[: beam.num_beams]
        alive = [hypothesis for hypothesis, done in zip(candidates, ended, strict=True) if not done][: beam.num_beams]
        if length >= limit or (len(finished) == beam.num_beams and alive[0][1] / penalty <= finished[-1][1]):
            return finished
    raise AssertionError


@pytest.mark.parametrize("beams", [1, 2, 4])
@pytest.mark.parametrize("packing", ["on", "off"])
def test_cached_batch_equals_uncached_search(beams: int, packing: str) -> None:
    ours = model(8, packing=packing)
    params = Seq2SeqParams(
        START,
        END,
        suppressed_ids=(0, START),
        beam=BeamParams(num_beams=beams, length_penalty="gnmt", alpha=0.6),
        max_extra_tokens=8,
    )
    ids, mask = sources()
    results = generate_targets(ours, ids, mask, params)
    lengths = set()
    with torch.no_grad():
        for source, length, hypotheses in zip(ids.tolist(), LENGTHS, results, strict=True):
            expected = plain_search(ours, source[:length], params)
            assert [hypothesis.tokens for hypothesis in hypotheses] == [tokens for tokens, _ in expected]
            torch.testing.assert_close(
                [hypothesis.score for hypothesis in hypotheses], [score for _, score in expected], atol=1e-4, rtol=1e-4
            )
            assert not {0, START} & {token for hypothesis in hypotheses for token in hypothesis.tokens}
            lengths |= {len(hypothesis.tokens) for hypothesis in hypotheses if hypothesis.tokens[-1] == END}
            assert max(len(hypothesis.tokens) for hypothesis in hypotheses) <= length + 8
    assert len(lengths) > 1  # sources leave the batch at different steps


def test_beam_search_equals_transformers(tmp_path: Path) -> None:
    torch.manual_seed(5)
    config = transformers.MarianConfig(
        vocab_size=VOCAB, d_model=16, encoder_layers=2, decoder_layers=2, encoder_attention_heads=2, pad_token_id=29,
        decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, max_position_embeddings=32, eos_token_id=0,
        decoder_start_token_id=29, scale_embedding=True, forced_eos_token_id=None,
    )  # fmt: skip
    theirs = transformers.MarianMTModel(config)
    for name, parameter in theirs.eval().named_parameters():
        if "embed_positions" not in name:
            nn.init.normal_(parameter, mean=float("norm" in name and name.endswith("weight")), std=0.35)
    theirs.save_pretrained(tmp_path)
    ours = transformer(**MarianWeights().sizes(weights.read_config(tmp_path)))
    weights.load_into(ours, MarianWeights().from_hf(weights.read_state(tmp_path))[0], "theirs")
    ids, mask = sources()
    ids = ids.masked_fill(~mask, 29)
    expected = theirs.generate(
        ids, attention_mask=mask.long(), num_beams=4, max_new_tokens=20, length_penalty=0.6, do_sample=False,
        bad_words_ids=[[29]],
    ).tolist()  # fmt: skip
    params = Seq2SeqParams(29, 0, suppressed_ids=[29], beam=BeamParams(num_beams=4, alpha=0.6), max_extra_tokens=20)
    limited = [
        generate_targets(
            ours, one[None, :length], flags[None, :length], Seq2SeqParams(29, 0, [29], params.beam, 20 - length)
        )[0]
        for one, flags, length in zip(ids, mask, LENGTHS, strict=True)
    ]
    for hypotheses, tokens in zip(limited, expected, strict=True):
        assert best_tokens(hypotheses, 0) == [token for token in tokens[1:] if token not in (0, 29)]


def test_training_mode_is_restored_and_dropout_is_off() -> None:
    ours = model(dropout=0.5).train()
    ids, mask = sources()
    first = generate_targets(ours, ids, mask, Seq2SeqParams(START, END, max_extra_tokens=4))
    assert ours.training
    assert first == generate_targets(ours.eval(), ids, mask, Seq2SeqParams(START, END, max_extra_tokens=4))
    with torch.autocast("cpu", torch.bfloat16):
        assert first == generate_targets(ours, ids, mask, Seq2SeqParams(START, END, max_extra_tokens=4))


def test_targets_are_no_longer_than_max_seq_len() -> None:
    ids = torch.randint(3, VOCAB, (1, 18))
    (hypotheses,) = generate_targets(
        model(1),
        ids,
        torch.ones_like(ids, dtype=torch.bool),
        Seq2SeqParams(START, VOCAB - 1, beam=BeamParams(num_beams=2)),
    )
    assert max(len(hypothesis.tokens) for hypothesis in hypotheses) <= 20


def test_batches_by_length() -> None:
    lengths = [3, 50, 4, 7, 3, 20, 19, 1]
    batches = batches_by_length(lengths, max_tokens=40)
    assert sorted(index for batch in batches for index in batch) == list(range(8))
    assert batches == [[1], [5, 6], [3, 2, 0, 4, 7]]


def test_values_out_of_range() -> None:
    with pytest.raises(ConfigurationError, match="max_extra_tokens=0"):
        Seq2SeqParams(START, END, max_extra_tokens=0)
    with pytest.raises(ConfigurationError, match="beams=100000: at most 1,000"):
        BeamParams(num_beams=100_000)
    with pytest.raises(ConfigurationError, match="alpha=nan: a finite number"):
        BeamParams(alpha=float("nan"))
    with pytest.raises(ConfigurationError, match="beams=0: at least 1"):
        Seq2SeqParams(START, END, beam=BeamParams(num_beams=0))
    ours = model()
    ids, mask = sources()
    session = EncoderDecoderSession(ours, ours.encode(ids, mask), 5)
    with pytest.raises(ValueError, match="without padding"):
        session.step(ids[:, :1], mask[:, :1])
