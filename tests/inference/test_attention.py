"""`protoformer attention`: weights as transformers gives them, runs, what the table says, and what is refused."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from protoformer.assembly.model import build_module, builder_arguments
from protoformer.cli import main as command
from protoformer.config.compose import compose
from protoformer.decoding.beam import Hypothesis
from protoformer.decoding.seq2seq import Seq2SeqParams
from protoformer.errors import ConfigurationError, WeightsError
from protoformer.inference import attention
from protoformer.inference.attention import AttentionRequest, load_model, resolve
from protoformer.inference.load import load
from protoformer.runs.folder import RunFolder
from protoformer.text.tokenizers import whole_word_tokenizer
from protoformer.views.inspected_model import InspectedModel, attention_panels, check_page_size
from protoformer.views.panels import Panel

from ..text.marian import other, write_model

WORDS = whole_word_tokenizer(["the cat sat on mats and dogs ran off ."], "here")
TINY = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 32}


@pytest.fixture(scope="module")
def bert_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT as transformers writes it."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("weights") / "tiny" / "bert"
    config = transformers.BertConfig(
        vocab_size=WORDS.vocab_size, max_position_embeddings=24, initializer_range=0.4, **TINY
    )
    transformers.BertModel(config).save_pretrained(folder)
    WORDS.save(folder)
    return folder


@pytest.fixture(scope="module")
def gpt2_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("weights") / "gpt2"
    config = transformers.GPT2Config(
        vocab_size=WORDS.vocab_size, n_embd=24, n_layer=2, n_head=3, n_positions=16, initializer_range=0.4,
        bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    WORDS.save(folder)
    return folder


def panels_for(inspected: InspectedModel, request: AttentionRequest) -> list[Panel]:
    layers, texts = resolve(inspected, request)
    return attention_panels(inspected, texts, layers)


def theirs(folder: Path, ids: torch.Tensor, **more: Any) -> torch.Tensor:
    """`layers heads seq seq`, by transformers."""
    model = transformers.AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    with torch.no_grad():
        return torch.stack(model(ids[None], output_attentions=True, **more).attentions)[:, 0]


def test_bert_weights_equal_transformers(bert_folder: Path) -> None:
    (panel,) = panels_for(load_model(str(bert_folder)), AttentionRequest("the cat sat", "dogs ran off", padding=0))
    assert [token.text for token in panel.keys] == [
        "[CLS]",
        "the",
        "cat",
        "sat",
        "[SEP]",
        "dogs",
        "ran",
        "off",
        "[SEP]",
    ]
    assert [token.segment for token in panel.keys] == [0] * 5 + [1] * 4
    assert [token.special for token in panel.keys] == [True, False, False, False, True, False, False, False, True]
    ids = torch.tensor([WORDS.id(token.text) for token in panel.keys])
    segments = torch.tensor([[token.segment for token in panel.keys]])
    torch.testing.assert_close(panel.weights, theirs(bert_folder, ids, token_type_ids=segments))


def test_gpt2_is_as_transformers_has_it(gpt2_folder: Path) -> None:
    (panel,) = panels_for(load_model(str(gpt2_folder)), AttentionRequest("the cat sat on mats", padding=3))
    assert [token.text for token in panel.keys] == ["the", "cat", "sat", "on", "mats", "[PAD]", "[PAD]", "[PAD]"]
    ids = torch.tensor([WORDS.id(token.text) for token in panel.keys[:5]])
    torch.testing.assert_close(panel.weights[..., :5, :5], theirs(gpt2_folder, ids))
    assert torch.equal(panel.allowed[0, :, :5], torch.ones(8, 8, dtype=torch.bool).tril()[:, :5])
    assert not panel.allowed[..., 5:].any()


def test_command_writes_a_page_and_prints_notable_heads(
    bert_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "page.html"
    assert command(["attention", str(bert_folder), "--text", "the cat sat", "--out", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "tiny/bert: 2 layers of 3 heads, 24 wide."
    assert lines[1].startswith("encoder self-attention, 5 tokens;")
    (panel,) = panels_for(load_model(str(bert_folder)), AttentionRequest("the cat sat"))
    statistics = panel.statistics()
    for line, what, values in (
        (lines[2], "the previous token", statistics.previous),
        (lines[3], "the next token", statistics.next),
        (lines[4], "special tokens", statistics.special),
    ):
        assert values is not None
        best = int(values.argmax())
        assert line.split()[: len(what.split())] == what.split()
        assert f"  {best // 3 + 1}-{best % 3 + 1} {values.max().item():4.0%}" in line
        assert line.index(f"{values.max().item():4.0%}") < 32  # the strongest stands first
    assert lines[5].startswith("no integrated gradients: this model has no head")
    assert lines[6].startswith(f"{out} (")
    html = out.read_text(encoding="utf-8")
    assert "<title>Attention · tiny/bert · the cat sat</title>" in html
    # the same name again: an attention page may be overwritten
    assert command(["attention", str(bert_folder), "--text", "dogs", "--layers", "2", "--out", str(out)]) == 0
    assert '"layers":[2]' in out.read_text(encoding="utf-8")


REFUSED = [
    (["--text", " "], "--text ' ' is empty: there is no token in it"),
    (["--text", "cat", "--text-b", ""], "--text-b '' is empty: there is no token in it"),
    (["--text", "cat " * 23], "the text is 25 tokens long, the model has 24 positions: give a shorter one"),
    (["--text", "cat", "--layers", "1,3"], "--layers 3: the model has layers 1 to 2"),
    (["--text", "cat", "--layers", "one"], "argument --layers: 'one' is not a list of numbers such as 1,2"),
    (["--text", "cat", "--padding", "-1"], "--padding -1: at least 0"),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_invalid_arguments_are_one_line_errors(
    bert_folder: Path, tmp_path: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(["attention", str(bert_folder), *arguments, "--out", str(tmp_path / "page.html")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.strip().splitlines()[-1].startswith("error: ")
    assert list(tmp_path.iterdir()) == []


def test_paths_that_cannot_be_written(bert_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "notes.html"
    other.write_text("mine")
    for out, message in (
        (tmp_path / "no" / "page.html", f"there is no folder {tmp_path / 'no'}; make it, or choose another path"),
        (tmp_path, f"a folder; name a file in it, such as {tmp_path / 'page.html'}"),
        (other, "this file exists and is no attention page; choose another name"),
    ):
        assert command(["attention", str(bert_folder), "--text", "cat", "--out", str(out)]) == 2
        assert capsys.readouterr().err == f"error: --out {out}: {message}\n"
    assert other.read_text() == "mine"


def test_full_disk_is_a_one_line_error(bert_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, text: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(attention, "write_text", full)
    with pytest.raises(ConfigurationError, match=r"--out .*page.html: No space left on device; choose another path"):
        attention.main(str(bert_folder), AttentionRequest("cat"), str(tmp_path / "page.html"))


def test_as_much_padding_as_there_is_room_for(bert_folder: Path) -> None:
    (panel,) = panels_for(load_model(str(bert_folder)), AttentionRequest("cat " * 21, padding=5))
    assert [token.padding for token in panel.keys] == [False] * 23 + [True]


def test_language_model_reads_a_single_text(gpt2_folder: Path) -> None:
    with pytest.raises(ConfigurationError, match="--text-b: this model reads a single text; leave it out"):
        panels_for(load_model(str(gpt2_folder)), AttentionRequest("the cat", "sat"))


def test_a_page_has_its_bound() -> None:
    check_page_size(12, 12, 512)  # BERT-base at its longest
    with pytest.raises(
        ConfigurationError,
        match=r"24 layers of 16 heads over 1024 tokens, and their rollout, are 408 MB of weights; a page",
    ):
        check_page_size(24, 16, 1024)


def test_marians_weights_write_a_target_and_look_at_the_source(tmp_path: Path) -> None:
    theirs = write_model(tmp_path / "marian")
    model = load_model(str(tmp_path / "marian"))
    panels = panels_for(model, AttentionRequest("the cat sleeps", text_b=other(["the dog sleeps"])[0], padding=0))
    assert [panel.name for panel in panels] == [
        "encoder self-attention",
        "decoder self-attention",
        "attention to the source",
    ]
    assert (panels[-1].queries[0].text, panels[-1].queries[0].special) == ("<pad>", True)
    source, target = (torch.tensor([ids]) for ids in (
        [*model.tokenizer.encode(["the cat sleeps"])[0], model.template.eos_id],
        [model.template.bos_id, *model.tokenizer.encode_targets(other(["the dog sleeps"]))[0]],
    ))  # fmt: skip
    theirs.set_attn_implementation("eager")
    with torch.no_grad():
        expected = theirs(input_ids=source, decoder_input_ids=target, output_attentions=True).cross_attentions
    torch.testing.assert_close(panels[-1].weights, torch.cat(expected), atol=1e-3, rtol=0)
    written = panels_for(model, AttentionRequest("the cat sleeps"))
    assert len(written[-1].queries) > 1


def test_weights_that_are_none_of_ours(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(WeightsError, match="model_type 'llama'; supported: bert, openai-gpt, gpt2, marian"):
        load_model(str(tmp_path))
    with pytest.raises(WeightsError, match="/nowhere: no such folder"):
        load_model(str(tmp_path / "nowhere"))
    with pytest.raises(WeightsError, match="name a run folder, a folder of weights or a hub id") as message:
        load_model("some/model")
    assert "init_from" not in str(message.value)


def write_run(folder: Path, *overrides: str, attends: bool = True) -> Path:
    """The folder of a run with random weights."""
    config = compose(["source=sample", f"paths.outputs={folder}", *overrides])
    config["model"] |= {"vocab_size": WORDS.vocab_size + 3, "d_model": 24, "n_layers": 2}
    config["model"] |= {"n_heads": 3, "d_ff": 32} if attends else {}
    choices = config["choices"]
    run = RunFolder(folder / choices["model"] / choices["task"] / "seed42-abc", "seed42-abc")
    run.write_config(config)
    module = build_module(config, builder_arguments(config["model"]))
    run.checkpoints.mkdir()
    torch.save({"state_dict": module.state_dict()}, run.best_checkpoint)
    WORDS.save(run.path / "tokenizer")
    return run.path


def test_a_run_writes_texts_as_its_task_does(tmp_path: Path) -> None:
    inspected = load_model(str(write_run(tmp_path, "model=bert", "task=glue/mnli")))
    assert inspected.name == "bert, glue/mnli"
    (panel,) = panels_for(inspected, AttentionRequest("the cat", "dogs", padding=0))
    assert [token.text for token in panel.keys] == ["[CLS]", "the", "cat", "[SEP]", "dogs", "[SEP]"]


def test_a_page_of_a_classifier_shows_its_prediction(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path, "model=bert", "task=glue/mnli")
    out = tmp_path / "page.html"
    assert command(["attention", str(run), "--text", "the cat", "--text-b", "dogs", "--out", str(out)]) == 0
    label = load(run).predict("the cat", "dogs")["prediction"]
    assert re.search(rf'"prediction":"{label} \d+ %"', out.read_text(encoding="utf-8"))


def test_a_fine_tuned_decoder_shows_its_own_special_tokens(tmp_path: Path) -> None:
    inspected = load_model(str(write_run(tmp_path, "model=gpt2_tiny", "task=glue/rte")))
    (panel,) = panels_for(inspected, AttentionRequest("the cat", "dogs"))
    shown = [token.text for token in panel.keys]
    assert shown == ["[start]", "the", "cat", "[delimiter]", "dogs", "[extract]", "[PAD]", "[PAD]"]
    assert [token.special for token in panel.keys] == [True, False, False, True, False, True, True, True]
    assert panel.name == "decoder self-attention"


def test_model_without_attention(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path, "model=rnn_tiny", "task=glue/mrpc", attends=False)
    assert command(["attention", str(run), "--text", "cat", "--text-b", "dogs", "--out", str(tmp_path / "x.html")]) == 2
    message = "rnn_tiny, glue/mrpc: no layer of this model has attention, so there is nothing to show"
    assert capsys.readouterr().err == f"error: {message}\n"


def test_layers_without_attention(tmp_path: Path) -> None:
    inspected = load_model(str(write_run(tmp_path, "model=rnn_tiny", "task=translate/multi30k_en_de", attends=False)))
    (panel,) = panels_for(inspected, AttentionRequest("the cat", "dogs"))
    (attends,) = panel.layers
    other = 3 - attends
    with pytest.raises(ConfigurationError, match=f"layers {other}: none of these has attention; choose others"):
        panels_for(inspected, AttentionRequest("the cat", "dogs", layers=[other]))


TRANSLATION = ("model=transformer_tiny", "task=translate/multi30k_en_de", "model.max_seq_len=32", "task.max_len=32")


def test_a_translation_is_shown_over_its_source(tmp_path: Path) -> None:
    run = write_run(tmp_path, *TRANSLATION)
    inspected = load_model(str(run))
    encoder, decoder, cross = panels_for(inspected, AttentionRequest("the cat sat", "dogs ran", padding=1))
    assert [token.text for token in encoder.keys] == ["the", "cat", "sat", "[end]", "[PAD]"]
    assert [token.text for token in decoder.keys] == ["[start]", "dogs", "ran", "[PAD]"]
    assert (cross.queries, cross.keys) == (decoder.keys, encoder.keys)
    with pytest.raises(ConfigurationError, match="the text is 41 tokens long, the model has 32 positions"):
        panels_for(inspected, AttentionRequest("cat " * 40))


def test_without_a_target_the_model_translates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = write_run(tmp_path, *TRANSLATION)
    template = load_model(str(run)).template

    def generate_targets(
        model: Any, ids: torch.Tensor, mask: torch.Tensor, params: Seq2SeqParams
    ) -> list[list[Hypothesis]]:
        assert ids.tolist() == [[*WORDS.encode(["the cat sat"])[0], template.eos_id]]
        assert mask.all()
        assert (params.start_id, params.end_id, params.suppressed_ids) == (
            template.bos_id,
            template.eos_id,
            template.never_generated(len(model.embeddings.token.weight)),
        )
        return [
            [Hypothesis([*WORDS.encode(["dogs ran"])[0], template.eos_id], -1.0), Hypothesis([template.eos_id], -2.0)]
        ]

    monkeypatch.setattr(attention, "generate_targets", generate_targets)
    out = tmp_path / "page.html"
    attention.main(str(run), AttentionRequest("the cat sat"), str(out))
    html = out.read_text(encoding="utf-8")
    assert '"texts":["the cat sat","dogs ran"]' in html
    assert '"queries":[["[start]",0,1],["dogs",0,0],["ran",0,0],["[PAD]",0,2],["[PAD]",0,2]]' in html
