"""GPT and BERT with rotary or sinusoidal positions: the whole model against `transformers`, decoding, training, export."""

import json
from pathlib import Path

import pytest
import torch
import transformers
from torch import nn

from protoformer.cli import main as command
from protoformer.commands import train
from protoformer.decoding.beam import BeamParams, beam_search
from protoformer.decoding.generation import complete
from protoformer.decoding.session import DecoderSession, left_pad
from protoformer.models.bert import bert
from protoformer.models.decoder import Decoder
from protoformer.models.gpt import gpt

VOCAB, POSITIONS, END, D, HEADS, LAYERS = 60, 48, 7, 32, 4, 2
SIZES = {"vocab_size": VOCAB, "d_model": D, "n_layers": LAYERS, "n_heads": HEADS, "d_ff": 64, "max_seq_len": POSITIONS}
NEOX = {
    "embed_in": "embeddings.token",
    "input_layernorm": "attention_norm",
    "post_attention_layernorm": "feed_forward_norm",
    "attention.query_key_value": "attention.qkv",
    "attention.dense": "attention.output",
    "mlp.dense_h_to_4h": "feed_forward.inner",
    "mlp.dense_4h_to_h": "feed_forward.outer",
    "final_layer_norm": "stack.final_norm",
    "layers": "stack.layers",
}


@pytest.fixture(scope="module")
def pair() -> tuple[Decoder, transformers.GPTNeoXForCausalLM]:
    """The same random GPT-NeoX with sequential residuals, theirs and ours: a pre-norm GPT with rotary positions."""
    torch.manual_seed(3)
    config = transformers.GPTNeoXConfig(
        vocab_size=VOCAB, hidden_size=D, num_hidden_layers=LAYERS, num_attention_heads=HEADS, intermediate_size=64,
        max_position_embeddings=POSITIONS, use_parallel_residual=False, tie_word_embeddings=True, hidden_act="gelu",
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 1.0},
        bos_token_id=END, eos_token_id=END, pad_token_id=END,
    )  # fmt: skip
    theirs = transformers.GPTNeoXForCausalLM(config).eval()
    for name, parameter in theirs.named_parameters():
        nn.init.normal_(parameter, mean=float("norm" in name and name.endswith("weight")), std=0.3)
    ours = gpt(**SIZES, norm="pre", activation="gelu", positions="rotary").eval()
    state = {}
    for name, tensor in theirs.gpt_neox.state_dict().items():
        if "query_key_value" in name:  # (heads, q k v, width) -> (q k v, heads, width)
            tensor = tensor.unflatten(0, (HEADS, 3, D // HEADS)).transpose(0, 1).flatten(0, 2)
        for stem, our_stem in NEOX.items():
            name = name.replace(stem, our_stem)
        state[name] = tensor
    ours.load_state_dict(state)
    return ours, theirs


def prompts(n: int) -> list[list[int]]:
    generator = torch.Generator().manual_seed(1)
    lengths = torch.randint(1, 20, (n,), generator=generator).tolist()
    return [torch.randint(VOCAB, (length,), generator=generator).tolist() for length in lengths]


@torch.no_grad()
@pytest.mark.parametrize("packing", ["on", "off"])
def test_logits_equal_gpt_neox(pair: tuple, packing: str) -> None:
    ours, theirs = pair
    lengths = torch.tensor([20, 3, 11])
    ids, mask = torch.randint(VOCAB, (3, 20)), torch.arange(20)[None] < lengths[:, None]
    ours.packing = packing
    logits = ours.logits(ours(ids, mask).to_padded())
    ours.packing = "auto"
    torch.testing.assert_close(logits[mask], theirs(ids, attention_mask=mask.long()).logits[mask], atol=2e-5, rtol=1e-4)


def generated_by(theirs: transformers.GPTNeoXForCausalLM, prompt: list[int], **options: object) -> list[int]:
    ids = torch.tensor([prompt])
    results = theirs.generate(ids, attention_mask=torch.ones_like(ids), pad_token_id=END, do_sample=False, **options)
    return [token for token in results[0, len(prompt) :].tolist() if token != END]


def test_greedy_and_beam_search_equal_gpt_neox(pair: tuple) -> None:
    """Prompts of unequal length in one batch, padded on the left, by the fast path."""
    ours, theirs = pair
    texts = prompts(30)
    with torch.inference_mode():
        assert ours.stack.supports_fast_decode(torch.device("cpu"))
    expected = [generated_by(theirs, prompt, max_new_tokens=12) for prompt in texts]
    assert complete(ours, texts, max_new_tokens=12, eos_ids={END}) == expected
    assert len({tuple(text) for text in expected}) > 15
    session = DecoderSession(ours, len(texts), POSITIONS)
    with torch.no_grad():
        logits = session.step(*left_pad(texts))
    results = beam_search(session, logits, max_new_tokens=6, eos_ids={END}, params=BeamParams(num_beams=3, alpha=0.7))
    for prompt, hypotheses in zip(texts, results, strict=True):
        best = generated_by(theirs, prompt, num_beams=3, length_penalty=0.7, max_new_tokens=6)
        assert [token for token in hypotheses[0].tokens if token != END] == best


@torch.no_grad()
@pytest.mark.parametrize("positions", ["rotary", "sinusoidal"])
@pytest.mark.parametrize("attention", [["dense"], ["dense", "banded"]])
@pytest.mark.parametrize("rows", [2, 7])
def test_decoding_equals_one_pass(positions: str, attention: list[str], rows: int) -> None:
    """Fast steps after left-padded prompts against whole passes of each text alone."""
    ours = gpt(**SIZES, norm="pre", attention=attention, band=5, init_std=0.3, positions=positions).eval()
    texts, session = prompts(rows), DecoderSession(ours, rows, 40)
    logits = session.step(*left_pad(texts))
    for step in range(4):
        for row, text in enumerate(texts):
            ids = torch.tensor([text])
            expected = ours.logits(ours(ids, torch.ones_like(ids, dtype=torch.bool)).to_padded()[0, -1])
            torch.testing.assert_close(logits[row], expected, atol=2e-5, rtol=1e-4)
            text.append((7 * step + row) % VOCAB)
        logits = session.step(torch.tensor([[text[-1]] for text in texts]))


def test_generation_slides_beyond_the_positions() -> None:
    """A text longer than the model's positions: each token is what one pass over the window that is still read gives."""
    ours = gpt(**{**SIZES, "max_seq_len": 12}, init_std=0.3, positions="rotary").eval()
    prompt = prompts(3)[2][:6]
    (new,) = complete(ours, [prompt], max_new_tokens=40)
    text, begin = prompt + new, 0
    assert len(text) == 46
    for end in range(len(prompt), len(text)):
        if end - begin > 12:
            begin = end - 6
        ids = torch.tensor([text[begin:end]])
        with torch.no_grad():
            logits = ours.logits(ours(ids, torch.ones_like(ids, dtype=torch.bool)).to_padded()[0, -1])
        assert logits.argmax() == text[end]


@torch.no_grad()
@pytest.mark.parametrize("attention", ["bidirectional", "causal"])
@pytest.mark.parametrize("positions", ["rotary", "sinusoidal"])
def test_bert_packed_equals_padded_and_alone(attention: str, positions: str) -> None:
    model = bert(**SIZES, attention=attention, positions=positions, init_std=0.3).eval()
    lengths = torch.tensor([20, 3, 11])
    ids, mask = torch.randint(VOCAB, (3, 20)), torch.arange(20)[None] < lengths[:, None]
    outs = {}
    for packing in ("on", "off"):
        model.packing = packing
        outs[packing] = model(ids, mask).to_padded()[mask]
    torch.testing.assert_close(outs["on"], outs["off"], atol=1e-5, rtol=1e-4)
    alone = [model(ids[i : i + 1, :n], mask[i : i + 1, :n]).to_padded()[0] for i, n in enumerate(lengths.tolist())]
    torch.testing.assert_close(outs["on"], torch.cat(alone), atol=1e-5, rtol=1e-4)
    swapped = ids.clone()
    swapped[0, [3, 4]] = ids[0, [4, 3]]
    assert (model(swapped, mask).to_padded()[0, 10] - model(ids, mask).to_padded()[0, 10]).abs().max() > 1e-3


def test_there_are_no_position_parameters() -> None:
    learned, rotary = (gpt(**SIZES, positions=positions) for positions in ("learned", "rotary"))
    assert learned.state_dict().keys() - rotary.state_dict().keys() == {"embeddings.position.weight"}
    assert rotary.state_dict().keys() <= learned.state_dict().keys()


@pytest.mark.parametrize(
    "overrides",
    [
        ("model=gpt_rotary_tiny", "task=pretrain/clm"),
        ("model=bert_l2_h128", "model.positions=rotary", "task=glue/mrpc"),
    ],
)
def test_training_run_and_refused_export(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], overrides: tuple[str, ...]
) -> None:
    outputs = tmp_path / "outputs"
    settings = (
        *(
            "model.d_model=32",
            "model.d_ff=128",
            "source=sample",
            "source.rows=96",
            "task.max_len=48",
            "init_from=scratch",
        ),
        *("recipe.max_steps=12", "recipe.batch_size=8", "recipe.lr=1e-3", "trainer.log_every=1", "tracking=none"),
        *("hardware=cpu", "hardware.threads=1", f"paths.outputs={outputs}", f"paths.cache={tmp_path / 'cache'}"),
    )
    assert train.main([*overrides, *settings]) == 0
    (result,) = outputs.glob("*/*/*/*/result.json")
    rows = [json.loads(line) for line in (result.parent / "metrics.jsonl").read_text().splitlines()]
    losses = [row["train/loss"] for row in rows if "train/loss" in row]
    assert len(losses) == 12
    capsys.readouterr()
    assert command(["export", str(result.parent), "--to", "hf", str(tmp_path / "out")]) != 0
    captured = capsys.readouterr()
    assert "model.positions=rotary has no counterpart in transformers: this run cannot be exported" in captured.err
    assert len(captured.err.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()
