"""`protoformer probe layers`: features as transformers gives them, the layer that holds the answer, multiple choice, encoders
of encoder-decoders, tables, files, refusals."""

import csv
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from protoformer.cli import main as command
from protoformer.config.compose import compose
from protoformer.inference.files.progress import Progress
from protoformer.inference.layers.features import LayerFeatures, Pooling, joined, read_layers
from protoformer.inference.layers.main import LayerProbeRequest, LayerProbing
from protoformer.inference.layers.probes import STRENGTHS, LayerProbes, baseline
from protoformer.inference.layers.results import evaluated, metric_results
from protoformer.inference.layers.source_encoder import words_for_probes
from protoformer.inference.load import load
from protoformer.models.encoder_decoder import EncoderDecoder
from protoformer.modules.kinds.multiple_choice import MultipleChoiceModule

from ..modules.test_linear_probe import Features, build
from ..text.marian import write_model
from .test_attention import bert_folder, gpt2_folder, write_run

__all__ = ["bert_folder", "gpt2_folder"]  # fixtures

DATA = ["source=sample", "source.rows=40", "task.max_len=16", "hardware.accelerator=cpu"]


def probing(folder: Path, cache: Path, model: str, *words: str, pooling: Pooling = "head") -> LayerProbing:
    config = compose(
        [f"model={model}", f"init_from={folder}", f"paths.cache={cache}", "tracking=none", *DATA, *words],
    )
    return LayerProbing(config, LayerProbeRequest(pooling))


def all_features(probing: LayerProbing) -> LayerFeatures:
    module: Any = probing.model(None)
    batches = read_layers(
        module, probing.parts.data, probing.train, probing.rows, probing.options.pooling, Progress("example")
    )
    return joined(batches, len(probing.rows))


def sequences(probing: LayerProbing) -> list[dict[str, torch.Tensor]]:
    table = probing.train
    return [
        {
            name: torch.tensor(values[table.offsets[row] : table.offsets[row + 1]])[None].long()
            for name, values in (("input_ids", table.ids), ("token_type_ids", table.segment_ids))
        }
        for row in range(len(table))
    ]


@pytest.mark.parametrize("pooling", ["head", "mean"])
def test_features_of_an_encoder_are_those_of_transformers(bert_folder: Path, tmp_path: Path, pooling: Pooling) -> None:
    ours = probing(bert_folder, tmp_path, "bert", "task=glue/mrpc", pooling=pooling)
    features = all_features(ours)
    assert features.features.shape == (len(ours.train), 1, 3, 24)
    theirs = transformers.BertModel.from_pretrained(bert_folder).eval()
    by_id = {int(number): index for index, number in enumerate(features.ids)}
    for row, inputs in list(enumerate(sequences(ours)))[:8]:
        with torch.no_grad():
            layers = torch.cat(theirs(**inputs, output_hidden_states=True).hidden_states)
        expected = layers[:, 0] if pooling == "head" else layers.mean(1)
        of_row = features.features[by_id[int(ours.train.row[row])], 0]
        torch.testing.assert_close(of_row, expected, atol=1e-4, rtol=1e-4)


def test_features_of_a_decoder_are_of_the_last_token(gpt2_folder: Path, tmp_path: Path) -> None:
    ours = probing(gpt2_folder, tmp_path, "gpt2", "task=glue/sst2")
    features = all_features(ours)
    stack = ours.parts.module.backbone.stack
    by_id = {int(number): index for index, number in enumerate(features.ids)}
    for row, inputs in list(enumerate(sequences(ours)))[:8]:
        ids, segments = inputs["input_ids"], inputs["token_type_ids"]
        hidden = ours.parts.module.backbone.eval()(ids, torch.ones_like(ids, dtype=torch.bool), segments)
        of_row = features.features[by_id[int(ours.train.row[row])], 0]
        torch.testing.assert_close(of_row[-1], hidden.to_padded()[0, -1], atol=1e-4, rtol=1e-4)
    # of the layers in between without the last normalisation
    assert stack.final_norm is not None
    assert features.features.shape[2] == len(stack.layers) + 1


def layers_with_an_answer(count: int, regression: bool = False) -> LayerFeatures:
    """Three layers of noise; the second one's first feature tells the label."""
    labels = torch.randn(count) if regression else torch.arange(count) % 2
    features = torch.randn(count, 1, 3, Features.d_model)
    features[:, 0, 1, 0] = 2.0 * labels + 0.3 * features[:, 0, 1, 0]
    return LayerFeatures(torch.arange(count), features, torch.zeros(count, 1, dtype=torch.long), labels)


def in_parts(features: LayerFeatures) -> list[LayerFeatures]:
    """Batches in another order."""
    return [features.rows(torch.arange(start, len(features.ids), 3)) for start in (2, 0, 1)]


@pytest.mark.parametrize("regression", [False, True])
def test_the_layer_that_holds_the_answer_wins(regression: bool) -> None:
    module = build(None if regression else ["a", "b"])
    probes = LayerProbes(module, 3)
    train, dev = layers_with_an_answer(100, regression), layers_with_an_answer(120, regression)
    fitted, mix = probes.fit(train, seed=0)
    assert [each.name for each in fitted] == ["0", "1", "2", "scalar mix"]
    assert mix.weights.argmax() == 1
    outputs = probes.predict(fitted, in_parts(dev))
    assert all(torch.equal(ids, dev.ids) for ids, _, _ in outputs)
    of_model = [evaluated(module, "", each) for each in outputs]
    of_baseline = evaluated(module, "", baseline(module, train.labels, outputs[0]))
    strengths = [each.strength for each in fitted]
    random = [[of_model[0]] * 4]
    (result, *_) = metric_results("", [each.name for each in fitted], strengths, of_model, random, of_baseline)
    scores = {each.probe: each.score for each in result.probes}
    assert max(scores, key=lambda name: scores[name]) in ("1", "scalar mix")
    assert scores["1"] > 0.9
    assert result.baseline == (0.0 if regression else 0.5)
    verdicts = {each.probe: (each.verdict_random, each.verdict_baseline) for each in result.probes}
    assert verdicts["1"] == verdicts["scalar mix"] == ("above", "above")
    assert verdicts["0"][0] == verdicts["2"][1] == "not shown"
    assert all(each.low <= each.score <= each.high for each in result.probes if each.low is not None and each.high)


def test_noise_has_a_stronger_penalty_than_an_answer() -> None:
    fitted, _ = LayerProbes(build(["a", "b"]), 3).fit(layers_with_an_answer(100), seed=0)
    assert fitted[0].strength > fitted[1].strength
    assert {each.strength for each in fitted} <= set(STRENGTHS)


def choices_with_an_answer(count: int) -> LayerFeatures:
    """Three layers of noise; the second one's first feature tells the right one of three choices. Every fourth example lacks
    the third choice."""
    labels = torch.arange(count) % 2
    features = torch.randn(count, 3, 3, Features.d_model)
    features[torch.arange(count), labels, 1, 0] += 6.0
    positions = torch.zeros(count, 3, dtype=torch.long)
    positions[::4, 2] = -1
    return LayerFeatures(torch.arange(count), features, positions, labels)


def test_of_several_choices_the_layer_that_tells_the_right_one_wins() -> None:
    module: Any = MultipleChoiceModule(
        backbone=Features(), choices=["A", "B", "C"], metrics=["accuracy"], splits={"val": [""], "test": []}
    )  # fmt: skip
    probes = LayerProbes(module, 3)
    train, dev = choices_with_an_answer(120), choices_with_an_answer(160)
    fitted, mix = probes.fit(train, seed=0)
    outputs = probes.predict(fitted, in_parts(dev))
    scores = [evaluated(module, "", each).score("accuracy") for each in outputs]
    assert scores[1] > 0.9
    assert max(scores[0], scores[2]) < 0.6
    assert mix.weights.argmax() == 1
    for _, logits, _ in outputs:  # an absent choice has no probability
        assert (logits[::4, 2] == -torch.inf).all()
        assert logits[1::4].isfinite().all()
    _, logits, _ = baseline(module, torch.tensor([2, 2, 0]), outputs[0])
    commonest = torch.where(torch.arange(160) % 4 == 0, 0, 2)  # of the choices that an example has
    assert torch.equal(logits.argmax(1), commonest)


ENCODER_DECODERS = {"transformer_tiny": True, "rnn_tiny": False, "cnn_tiny": False}  # whether they have heads
TRANSLATION = "task=translate/multi30k_en_de"


@pytest.mark.parametrize("model", ENCODER_DECODERS)
def test_features_of_an_encoder_decoder_are_its_encoders(model: str, tmp_path: Path) -> None:
    run = write_run(tmp_path, f"model={model}", TRANSLATION, attends=ENCODER_DECODERS[model])
    words = words_for_probes(str(run), [f"model={model}", "task=glue/mrpc", f"init_from={run}"])
    config = compose([*words, f"paths.cache={tmp_path}", "tracking=none", *DATA, "task.max_len=64"])
    ours = LayerProbing(config, LayerProbeRequest())
    features = all_features(ours)
    loaded = load(run)
    end, backbone = loaded.template().eos_id, loaded.model.backbone
    assert isinstance(backbone, EncoderDecoder)
    by_id = {int(number): index for index, number in enumerate(features.ids)}
    pairs = list(zip(*ours.parts.data.text_columns("train", "").values(), strict=True))
    for row, inputs in list(enumerate(sequences(ours)))[:8]:
        ids = inputs["input_ids"]
        first, second = loaded.tokenizer.encode(list(map(str, pairs[int(ours.train.row[row])])))
        assert ids[0].tolist() == [*first, end, *second, end]
        with torch.no_grad():
            memory = backbone.encode(ids, torch.ones_like(ids, dtype=torch.bool)).to_padded()
            embedded = backbone.embeddings(ids, torch.arange(ids.shape[1])[None])
        of_row = features.features[by_id[int(ours.train.row[row])], 0]
        torch.testing.assert_close(of_row[-1], memory[0].mean(0), atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(of_row[0], embedded[0].mean(0), atol=1e-4, rtol=1e-4)
    random = ours.model(3).backbone
    assert not torch.equal(random.embeddings.token.weight, backbone.embeddings.token.weight)


def test_published_encoder_decoders_are_probed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_model(tmp_path / "marian")
    words = [str(tmp_path / "marian"), "task=glue/rte", *DATA, f"paths.cache={tmp_path / 'cache'}"]
    assert command(["probe", "layers", *words]) == 0
    assert f"{tmp_path / 'marian'}: the encoder, 2 layers" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("model", "task", "metrics"),
    [
        ("bert", "glue/mrpc", ["accuracy", "f1"]),
        ("gpt2_tiny", "glue/stsb", ["pearson", "spearman"]),
        ("bert", "swag", ["accuracy"]),
    ],
)
def test_tables_and_files(
    model: str, task: str, metrics: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = write_run(tmp_path, f"model={model}", f"task={task}"), tmp_path / "out"
    words = [str(run), *DATA, f"paths.cache={tmp_path / 'cache'}", "--rows", "30", "--random", "2", "--out", str(out)]
    assert command(["probe", "layers", *words]) == 0
    text = capsys.readouterr().out
    assert f"{run}: 2 layers, 24 wide; features are the token that the task's head reads." in text
    assert "Probes are fitted on 30 training examples of" in text
    assert "Weights of the scalar mix in per cent: layer 0 " in text
    with (out / "layers.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(dict.fromkeys(row["metric"] for row in rows)) == metrics
    assert [row["layer"] for row in rows[:5]] == ["baseline", "0", "1", "2", "scalar mix"]
    for row in rows:
        if row["layer"] != "baseline":
            assert len(row["random"].split()) == 2
            assert row["against_random"] in ("above", "below", "not shown")
    with (out / "mix.csv").open() as file:
        mix = list(csv.DictReader(file))
    assert [row["layer"] for row in mix] == ["0", "1", "2", "gamma"]
    assert sum(float(row["weight"]) for row in mix[:-1]) == pytest.approx(1, abs=1e-3)
    assert (out / "layers.svg").read_text().startswith("<?xml")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["task=squad/v2"], "task=squad/v2: no task with a linear head on pooled features"),
        (["task.splits.train=null"], "probes are fitted on its training split and scored on dev"),
        (["--rows", "5"], "5 training examples with labels: a probe takes 10 at least"),
        (["--rows", "0"], "'0' is no number from 1 on"),
    ],
)
def test_refusals(words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path, "model=bert", "task=glue/sst2")
    assert message in refused(run, words, tmp_path, capsys)


def test_a_run_that_has_no_weights_yet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path, "model=bert", "task=glue/sst2")
    shutil.rmtree(run / "checkpoints")
    assert f"init_from={run}: a run without checkpoints" in refused(run, [], tmp_path, capsys)


def refused(run: Path, words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    given = [str(run), *DATA[:2], f"paths.cache={tmp_path / 'cache'}", *words]
    assert command(["probe", "layers", *given]) == 2
    return capsys.readouterr().err.strip().splitlines()[-1]


@pytest.mark.parametrize("task", [None, "pretrain/mlm_nsp", "squad/v1"])
def test_tasks_that_no_encoder_is_probed_on(
    task: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path, "model=transformer_tiny", TRANSLATION)
    error = refused(run, [f"task={task}"] if task else [], tmp_path, capsys)
    assert f"{f'task={task}' if task else TRANSLATION}: no task with a linear head on pooled features" in error
    assert "give task=TASK" in error
