"""A translation run there and back: Marian's class says and writes the same."""

from pathlib import Path

import pytest
import torch
import transformers
from torch import nn

import protoformer
from protoformer.cli import main as command
from protoformer.runtime import building
from protoformer.runtime.compose import compose
from protoformer.runtime.run_folder import RunFolder
from protoformer.runtime.translate import Options, Translator
from protoformer.text.training import train

TEXTS = ["where is the dog ? the dog sleeps in the garden , and a cat walks", "the old cat sleeps", "a dog walks"]
WORDS = train(lambda: TEXTS * 3, "bytelevel", 300)


def write_run(place: Path, *overrides: str) -> Path:
    """A run folder with a tiny random model as its best checkpoint."""
    given = ["model=transformer_tiny", "task=translate/multi30k_en_de", "source=sample", f"paths.outputs={place}"]
    config = compose([*given, *overrides])
    config["model"] |= {"d_model": 16, "n_heads": 2, "d_ff": 24, "max_seq_len": 64, "vocab_size": WORDS.vocab_size}
    config["model"] = building.with_room(config, config["model"], WORDS)
    folder = RunFolder(place / "run" / "seed42-abc", "seed42-abc")
    folder.write_config(config)
    module = building.task_module(config, building.builder_arguments(config["model"]))
    for name, parameter in module.named_parameters():
        nn.init.normal_(parameter, mean=float("norm" in name and name.endswith("weight")), std=0.3)
    folder.checkpoints.mkdir()
    torch.save({"state_dict": module.state_dict(), "global_step": 3, "epoch": 0}, folder.best_checkpoint)
    WORDS.save(folder.path / "tokenizer")
    return folder.path


def test_a_translation_run_writes_the_same_there(tmp_path: Path) -> None:
    run, out = write_run(tmp_path, "model.sinusoid=halves"), tmp_path / "out"
    assert command(["export", str(run), "--to", "hf", str(out)]) == 0
    theirs = transformers.MarianMTModel.from_pretrained(out).eval()
    loaded = protoformer.load(run)
    translator = Translator(loaded, Options(beams=1, extra=5))
    assert (theirs.config.decoder_start_token_id, theirs.config.eos_token_id) == (
        WORDS.vocab_size,
        WORDS.vocab_size + 1,
    )
    for text, ids in zip(TEXTS, WORDS.encode(TEXTS), strict=True):
        source = torch.tensor([[*ids, WORDS.vocab_size + 1]])
        found = theirs.generate(
            source, num_beams=1, do_sample=False, max_new_tokens=source.shape[1] + 5,
            bad_words_ids=[[WORDS.vocab_size]], forced_eos_token_id=None,
        )  # fmt: skip
        written = [token for token in found[0].tolist() if token < WORDS.vocab_size]
        ((best,),) = translator.all([text])
        assert best.text == " ".join(WORDS.decode(written).split())


def test_what_marian_cannot_say_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["export", str(write_run(tmp_path)), "--to", "hf", str(tmp_path / "out")]) == 2
    assert "Marian's sinusoids are in halves" in capsys.readouterr().err
