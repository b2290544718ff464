"""`protoformer export RUN --to hf DIR`: what transformers makes of the folder, and where export refuses."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import protoformer
from protoformer.assembly.instantiate import instantiate
from protoformer.assembly.model import build_module, builder_arguments
from protoformer.cli import main as command
from protoformer.config.compose import compose
from protoformer.errors import RunFolderError, WeightsError
from protoformer.inference import export
from protoformer.runs.folder import RunFolder
from protoformer.text.tokenizer_files import read_tokenizer
from protoformer.text.tokenizers import Tokenizer, whole_word_tokenizer

PAIRS = [
    ("The dog sleeps in Käse.", "A cat!"),
    ("zebra", "the cat walks in the garden 中文 and the dog sleeps, and the cat walks, and the dog sleeps again " * 2),
    ("the garden", "the dog"),
]


def cased(folder: Path) -> Tokenizer:
    """From a vocab.txt beside a config that says: not lower-cased."""
    words = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "The",
        "the",
        "dog",
        "cat",
        "A",
        "!",
        "gard",
        "##en",
        "K",
        "##ä",
        "##se",
    ]
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    return read_tokenizer(folder)


def write_run(place: Path, task: str, words: Tokenizer, *overrides: str, name: str = "seed42-abc") -> Path:
    """A run folder with a tiny random BERT as its best checkpoint."""
    config = compose(["model=bert", f"task={task}", "source=sample", f"paths.outputs={place}", *overrides])
    config["task"]["max_len"] = 32
    config["model"] |= {
        "vocab_size": words.vocab_size,
        "d_model": 16,
        "n_layers": 2,
        "n_heads": 2,
        "d_ff": 24,
        "max_seq_len": 40,
    }
    folder = RunFolder(place / "bert" / task / name, name)
    folder.write_config(config)
    module = build_module(config, builder_arguments(config["model"]))
    for parameter in module.parameters():  # larger than BERT's own, so that a wrong layer shows in the logits
        torch.nn.init.normal_(parameter, std=0.3)
    folder.checkpoints.mkdir()
    torch.save({"state_dict": module.state_dict(), "global_step": 3, "epoch": 0}, folder.best_checkpoint)
    words.save(folder.path / "tokenizer")
    return folder.path


def our_logits(run: Path) -> Tensor:
    loaded: Any = protoformer.load(run)
    template = instantiate(loaded.config, "model.template", tokenizer=loaded.tokenizer)
    logits = []
    for a, b in PAIRS:
        written = template.encode_texts(
            loaded.tokenizer.encode([a]), loaded.tokenizer.encode([b]), loaded.config["task"]["max_len"]
        )
        ids = torch.from_numpy(written.ids).long()[None, None]  # (batch, sequences, seq)
        batch = {
            "ids": ids,
            "padding_mask": torch.ones_like(ids, dtype=torch.bool),
            "segment_ids": torch.from_numpy(written.segment_ids).long()[None, None],
            "pooler_position": torch.zeros(1, 1, dtype=torch.long),
        }
        with torch.no_grad():
            logits.append(loaded.model(batch))
    return torch.cat(logits)


def their_logits(folder: Path) -> tuple[Tensor, Any]:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model, report = AutoModelForSequenceClassification.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    batch = tokenizer([a for a, _ in PAIRS], [b for _, b in PAIRS], padding=True, truncation=True, return_tensors="pt")
    assert batch["input_ids"].shape[1] == 32  # the long pair is cut where the run cut it
    with torch.no_grad():
        return model.eval()(**batch).logits, model.config


@pytest.mark.parametrize("casing", ["uncased", "cased"])
@pytest.mark.parametrize("task", ["glue/mnli", "glue/stsb"])
def test_transformers_gives_the_same_logits_on_the_same_text(tmp_path: Path, task: str, casing: str) -> None:
    words = cased(tmp_path / "words") if casing == "cased" else whole_word_tokenizer([b for _, b in PAIRS], "here")
    run = write_run(tmp_path / "outputs", task, words)
    assert command(["export", str(run), "--to", "hf", str(tmp_path / "out")]) == 0
    logits, config = their_logits(tmp_path / "out")
    assert logits.shape == ((3, 3) if task == "glue/mnli" else (3, 1))
    assert (logits[0] - logits[1]).abs().max() > 1e-4
    torch.testing.assert_close(logits, our_logits(run), atol=1e-5, rtol=1e-5)
    if task == "glue/mnli":
        assert [config.id2label[n] for n in range(3)] == ["entailment", "neutral", "contradiction"]


def test_an_export_can_be_fine_tuned_from(tmp_path: Path) -> None:
    """Our own reader opens it too: the same tensors, head included."""
    from protoformer.models import weights

    run = write_run(tmp_path / "outputs", "glue/mnli", whole_word_tokenizer([b for _, b in PAIRS], "here"))
    export.main(str(run), "hf", str(tmp_path / "out"))
    layout = instantiate(compose(["model=bert", "task=glue/mnli"]), "model.hf")
    body, heads = layout.from_hf(weights.read_state(tmp_path / "out"))
    state = protoformer.load(run).model.state_dict()
    both = {f"backbone.{k}": v for k, v in body.items()}
    both |= {f"head.{k}": v for k, v in layout.head_from_hf("classification", heads, {}).items()}
    assert both.keys() == state.keys()
    assert all(torch.equal(both[name], state[name]) for name in state)
    assert read_tokenizer(tmp_path / "out").encode(["the dog"]) == protoformer.load(run).tokenizer.encode(["the dog"])


def test_another_folder_is_left_alone(tmp_path: Path) -> None:
    words = whole_word_tokenizer([b for _, b in PAIRS], "here")
    run, other = (write_run(tmp_path / "outputs", "glue/mrpc", words, name=name) for name in ("seed1-a", "seed2-b"))
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.tex").write_text("years of work")
    with pytest.raises(RunFolderError, match=r"not empty \(thesis\.tex\)"):
        export.main(str(run), "hf", str(out))
    assert [path.name for path in out.iterdir()] == ["thesis.tex"]
    (out / "thesis.tex").unlink()
    export.main(str(run), "hf", str(out))
    before = (out / "model.safetensors").read_bytes()
    export.main(str(run), "hf", str(out))  # again: the same
    assert (out / "model.safetensors").read_bytes() == before
    assert sorted(path.name for path in out.iterdir()) == [
        "config.json", "model.safetensors", "protoformer.json", "tokenizer.json", "tokenizer_config.json"
    ]  # fmt: skip
    with pytest.raises(RunFolderError, match="export of another run"):
        export.main(str(other), "hf", str(out))
    assert (out / "model.safetensors").read_bytes() == before
    with pytest.raises(RunFolderError, match="is a file; name a folder"):
        export.main(str(run), "hf", str(out / "config.json"))


def test_every_file_has_the_mode_of_the_umask(tmp_path: Path) -> None:
    words = whole_word_tokenizer([b for _, b in PAIRS], "here")
    run = write_run(tmp_path / "outputs", "glue/mrpc", words)
    before = os.umask(0o027)
    try:
        export.main(str(run), "hf", str(tmp_path / "out"))
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "out").iterdir()} == {0o640}


def test_what_the_other_library_cannot_express_is_refused(tmp_path: Path) -> None:
    words = whole_word_tokenizer([b for _, b in PAIRS], "here")
    run = write_run(tmp_path / "outputs", "glue/mrpc", words, "model.norm=pre")
    with pytest.raises(WeightsError, match=r"model\.norm=pre"):
        export.main(str(run), "hf", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_errors_of_the_command_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["export", str(tmp_path / "nowhere"), "--to", "hf", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == f"error: {tmp_path / 'nowhere'}: no such run folder\n"


def test_the_mark_names_the_run(tmp_path: Path) -> None:
    run = write_run(tmp_path / "outputs", "glue/mrpc", whole_word_tokenizer([b for _, b in PAIRS], "here"))
    export.main(str(run), "hf", str(tmp_path / "out"))
    mark = json.loads((tmp_path / "out" / "protoformer.json").read_text())
    assert mark == {"run": "seed42-abc", "model_and_task": "bert/glue/mrpc"}
