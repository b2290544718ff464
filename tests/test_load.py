"""`protoformer.load(run)`, on a run folder as a run leaves it."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import protoformer
from protoformer.assembly.model import build_module, builder_arguments
from protoformer.config.compose import compose
from protoformer.errors import RunFolderError, WeightsError
from protoformer.models import weights
from protoformer.runs.folder import RunFolder
from protoformer.text.tokenizers import whole_word_tokenizer

TEXTS = ["the dog sleeps", "a cat walks in the garden"]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A tiny BERT with random weights, finished on MRPC."""
    words = whole_word_tokenizer(TEXTS, "here")
    sizes = {"vocab_size": words.vocab_size, "d_model": 16, "n_layers": 1, "n_heads": 2, "d_ff": 32, "max_seq_len": 24}
    config = compose(["model=bert", "task=glue/mrpc", "source=sample", f"paths.outputs={tmp_path}"])
    config["model"] |= sizes
    folder = RunFolder(tmp_path / "bert" / "glue" / "mrpc" / "seed42-abc", "seed42-abc")
    folder.write_config(config)
    module = build_module(config, builder_arguments(config["model"]))
    folder.checkpoints.mkdir()
    torch.save({"state_dict": module.state_dict(), "global_step": 3, "epoch": 0}, folder.best_checkpoint)
    words.save(folder.path / "tokenizer")
    return folder.path


def test_model_tokenizer_and_config(run: Path) -> None:
    loaded = protoformer.load(run)
    state = weights.read_pickle(run / "checkpoints" / "best.ckpt")["state_dict"]
    assert not loaded.model.training
    assert loaded.config["model"]["d_model"] == 16
    assert loaded.tokenizer.encode(TEXTS) == whole_word_tokenizer(TEXTS, "").encode(TEXTS)
    assert loaded.model.state_dict().keys() == state.keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in loaded.model.state_dict().items())
    assert isinstance(protoformer.load(str(run)).config, dict)


def test_a_run_of_an_earlier_version_is_opened(run: Path) -> None:
    file = run / "config.yaml"
    text = file.read_text()
    for new, old in (
        ("protoformer.models.hf.BertWeights", "protoformer.models.published.bert.BertWeights"),
        ("protoformer.data.Classification", "protoformer.data.classification.Classification"),
        ("protoformer.modules.Classification", "protoformer.modules.kinds.classification.Classification"),
        ("  hf:\n", "  published:\n"),
        ("variant: null", "row: null"),
        ("protoformer.text.BertTemplate", "protoformer.text.formats.BertFormat"),
        ("protoformer.data.LabelledTextReader", "protoformer.data.rows.LabelledTexts"),
        ("  template:\n", "  format:\n"),
        ("  normalization: null", "  cleanup: null"),
    ):
        assert new in text, new
        text = text.replace(new, old)
    module = text[text.index("    _target_: protoformer.modules.kinds.classification") :]
    shared = module[module.index("    labels:") : module.index("    metrics:")]
    file.write_text(text.replace(module, module.replace(shared, "").replace("    aux_lm_weight: 0.0\n", "")))
    loaded = protoformer.load(run)
    assert loaded.config["task"]["module"]["labels"] == ["not_equivalent", "equivalent"]
    assert loaded.config["model"]["hf"]["_target_"] == "protoformer.models.hf.BertWeights"


def test_what_is_no_trained_run(run: Path, tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="no such run folder"):
        protoformer.load(tmp_path / "nowhere")
    with pytest.raises(RunFolderError, match=r"no config\.yaml"):
        protoformer.load(tmp_path)
    best = run / "checkpoints" / "best.ckpt"
    whole = best.read_bytes()
    best.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError, match=r"best\.ckpt"):
        protoformer.load(run)
    best.unlink()
    with pytest.raises(RunFolderError, match="not been evaluated"):
        protoformer.load(run)


def test_a_run_without_its_tokenizer_is_told(run: Path) -> None:
    (run / "tokenizer" / "tokenizer.json").unlink()
    (run / "tokenizer").rmdir()
    with pytest.raises(RunFolderError, match="no tokenizer"):
        protoformer.load(run)


def test_weights_of_other_sizes_are_named(run: Path) -> None:
    folder = RunFolder.open(run)
    config = folder.read_config()
    folder.write_config({**config, "model": {**config["model"], "d_ff": 48}})
    with pytest.raises(WeightsError, match=r"mis-shaped: backbone\.stack\.layers\.0\.feed_forward"):
        protoformer.load(run)


def test_importing_the_package_is_light() -> None:
    code = (
        "import sys, protoformer; print([m for m in ('torch', 'lightning', 'hydra', 'datasets') if m in sys.modules])"
    )
    completed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert completed.stdout.strip() == "[]"


def test_what_is_no_text_is_named(run: Path) -> None:
    loaded = protoformer.load(run)
    with pytest.raises(TypeError, match=r"texts\[0\] is of type tuple, not str; .* predict\(texts, pairs\)"):
        loaded.predict([("the dog", "a cat")])  # type: ignore[list-item]
    with pytest.raises(TypeError, match=r"texts\[1\] is of type NoneType"):
        loaded.encode(["the dog", None])  # type: ignore[list-item]
