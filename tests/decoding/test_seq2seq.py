"""Targets of a batch by cached beam search against a plain search that reads everything anew, and against `transformers`."""

import itertools
from pathlib import Path

import pytest
import torch
import transformers
from torch import nn

from protoformer.decoding.beam import Beam
from protoformer.decoding.seq2seq import EncoderDecoderReader, Writing, batches, best, write
from protoformer.errors import ConfigurationError
from protoformer.models import weights
from protoformer.models.encoder_decoder import EncoderDecoder
from protoformer.models.hf.marian import MarianWeights
from protoformer.models.transformer import transformer

START, END, VOCAB = 1, 2, 30
LENGTHS = (7, 3, 1, 9, 5, 3)


def model(seed: int = 0, **settings: object) -> EncoderDecoder:
    torch.manual_seed(seed)
    made = transformer(
        vocab_size=VOCAB, d_model=16, n_layers=2, n_heads=2, d_ff=32, max_seq_len=20, output_bias=True,
        **settings,  # type: ignore[arg-type]
    )  # fmt: skip
    for name, parameter in made.eval().named_parameters():  # sharp enough that no two ways are as good
        nn.init.normal_(parameter, mean=float("norm" in name and name.endswith("weight")), std=0.25)
    with torch.no_grad():
        made.bias[END] = 2.0  # type: ignore[index]  # so that targets end at different lengths
    return made


def sources() -> tuple[torch.Tensor, torch.Tensor]:
    mask = torch.arange(max(LENGTHS))[None] < torch.tensor(LENGTHS)[:, None]
    return torch.randint(3, VOCAB, mask.shape), mask


def plain_search(model: EncoderDecoder, source: list[int], writing: Writing) -> list[tuple[list[int], float]]:
    """One source, nothing kept between steps: the search in its textbook form."""
    beam, limit = writing.beam, min(len(source) + writing.extra, model.max_seq_len)
    ids = torch.tensor([source])
    memory = model.encode(ids, torch.ones_like(ids, dtype=torch.bool))
    living: list[tuple[list[int], float]] = [([], 0.0)]
    ended: list[tuple[list[int], float]] = []
    for length in itertools.count(1):
        ways = []
        for tokens, score in living:
            target = torch.tensor([[writing.start, *tokens]])
            hidden = model.decode(target, torch.ones_like(target, dtype=torch.bool), memory)
            logits = model.logits(hidden.to_padded()[0, -1])
            logits[list(writing.never)] = -torch.inf
            ways += [([*tokens, word], score + told) for word, told in enumerate(logits.log_softmax(-1).tolist())]
        ways = sorted(ways, key=lambda way: -way[1])[: 2 * beam.beams]
        over = [tokens[-1] == writing.end or length >= limit for tokens, _ in ways]
        penalty = beam.penalty(length)
        ended += [
            (tokens, score / penalty)
            for (tokens, score), done in list(zip(ways, over, strict=True))[: beam.beams]
            if done
        ]
        ended = sorted(ended, key=lambda way: -way[1])[: beam.beams]
        living = [way for way, done in zip(ways, over, strict=True) if not done][: beam.beams]
        if length >= limit or (len(ended) == beam.beams and living[0][1] / penalty <= ended[-1][1]):
            return ended
    raise AssertionError


@pytest.mark.parametrize("beams", [1, 2, 4])
@pytest.mark.parametrize("packing", ["on", "off"])
def test_a_batch_with_caches_equals_a_plain_search_of_each(beams: int, packing: str) -> None:
    made = model(8, packing=packing)
    writing = Writing(START, END, never=(0, START), beam=Beam(beams=beams, length_penalty="gnmt", alpha=0.6), extra=8)
    ids, mask = sources()
    found = write(made, ids, mask, writing)
    lengths = set()
    with torch.no_grad():
        for source, length, ways in zip(ids.tolist(), LENGTHS, found, strict=True):
            expected = plain_search(made, source[:length], writing)
            assert [way.tokens for way in ways] == [tokens for tokens, _ in expected]
            torch.testing.assert_close(
                [way.score for way in ways], [score for _, score in expected], atol=1e-4, rtol=1e-4
            )
            assert not {0, START} & {token for way in ways for token in way.tokens}
            lengths |= {len(way.tokens) for way in ways if way.tokens[-1] == END}
            assert max(len(way.tokens) for way in ways) <= length + 8
    assert len(lengths) > 1  # sources leave the batch at different steps


def test_beams_equal_transformers(tmp_path: Path) -> None:
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
    made = transformer(**MarianWeights().sizes(weights.read_config(tmp_path)))
    weights.put(made, MarianWeights().read(weights.read_state(tmp_path))[0], "theirs")
    ids, mask = sources()
    ids = ids.masked_fill(~mask, 29)
    expected = theirs.generate(
        ids, attention_mask=mask.long(), num_beams=4, max_new_tokens=20, length_penalty=0.6, do_sample=False,
        bad_words_ids=[[29]],
    ).tolist()  # fmt: skip
    writing = Writing(29, 0, never=[29], beam=Beam(beams=4, alpha=0.6), extra=20)
    limited = [
        write(made, one[None, :length], flags[None, :length], Writing(29, 0, [29], writing.beam, 20 - length))[0]
        for one, flags, length in zip(ids, mask, LENGTHS, strict=True)
    ]
    for ways, tokens in zip(limited, expected, strict=True):
        assert best(ways, 0) == [token for token in tokens[1:] if token not in (0, 29)]


def test_the_model_stays_as_it_was_and_the_search_knows_no_dropout() -> None:
    made = model(dropout=0.5).train()
    ids, mask = sources()
    first = write(made, ids, mask, Writing(START, END, extra=4))
    assert made.training
    assert first == write(made.eval(), ids, mask, Writing(START, END, extra=4))
    with torch.autocast("cpu", torch.bfloat16):
        assert first == write(made, ids, mask, Writing(START, END, extra=4))


def test_no_longer_than_the_positions_reach() -> None:
    ids = torch.randint(3, VOCAB, (1, 18))
    (ways,) = write(
        model(1), ids, torch.ones_like(ids, dtype=torch.bool), Writing(START, VOCAB - 1, beam=Beam(beams=2))
    )
    assert max(len(way.tokens) for way in ways) <= 20


def test_batches_are_of_like_length_and_hold_everything_once() -> None:
    lengths = [3, 50, 4, 7, 3, 20, 19, 1]
    found = batches(lengths, tokens=40)
    assert sorted(number for batch in found for number in batch) == list(range(8))
    assert found == [[1], [5, 6], [3, 2, 0, 4, 7]]


def test_what_cannot_be_asked() -> None:
    with pytest.raises(ConfigurationError, match="extra=0"):
        Writing(START, END, extra=0)
    with pytest.raises(ConfigurationError, match="beams=100000: at most 1,000"):
        Beam(beams=100_000)
    with pytest.raises(ConfigurationError, match="alpha=nan: a number"):
        Beam(alpha=float("nan"))
    with pytest.raises(ConfigurationError, match="beams=0: at least 1"):
        Writing(START, END, beam=Beam(beams=0))
    made = model()
    ids, mask = sources()
    reader = EncoderDecoderReader(made, made.encode(ids, mask), 5)
    with pytest.raises(ValueError, match="no padding"):
        reader.read(ids[:, :1], mask[:, :1])
