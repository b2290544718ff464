"""A translation run there and back: Marian's class says and writes the same."""

from pathlib import Path

import pytest
import torch
import transformers
from torch import nn

import protoformer
from protoformer.assembly.instantiate import instantiate
from protoformer.assembly.model import build_module, builder_arguments, with_special_token_rows
from protoformer.cli import main as command
from protoformer.commands.train import main as run_training
from protoformer.config.compose import compose
from protoformer.inference.translate import TranslationRequest, Translator
from protoformer.runs.folder import RunFolder
from protoformer.text.tokenizer_files import read_tokenizer
from protoformer.text.tokenizers import Tokenizer
from protoformer.text.vocabulary_training import train

from ..text.marian import sentences, write_model

TEXTS = ["where is the dog ? the dog sleeps in the garden , and a cat walks", "the old cat sleeps", "a dog walks"]
WORDS = train(lambda: TEXTS * 3, "bytelevel", 300)


def write_run(place: Path, *overrides: str, words: Tokenizer = WORDS) -> Path:
    """A run folder with a tiny random model as its best checkpoint."""
    given = ["model=transformer_tiny", "task=translate/multi30k_en_de", "source=sample", f"paths.outputs={place}"]
    config = compose([*given, *overrides])
    config["model"] |= {"d_model": 16, "n_heads": 2, "d_ff": 24, "max_seq_len": 64, "vocab_size": words.vocab_size}
    config["model"] = with_special_token_rows(config, config["model"], words)
    folder = RunFolder(place / "run" / "seed42-abc", "seed42-abc")
    folder.write_config(config)
    module = build_module(config, builder_arguments(config["model"]))
    for name, parameter in module.named_parameters():
        nn.init.normal_(parameter, mean=float("norm" in name and name.endswith("weight")), std=0.3)
    folder.checkpoints.mkdir()
    torch.save({"state_dict": module.state_dict(), "global_step": 3, "epoch": 0}, folder.best_checkpoint)
    words.save(folder.path / "tokenizer")
    return folder.path


def test_a_translation_run_writes_the_same_there(tmp_path: Path) -> None:
    run, out = write_run(tmp_path, "model.sinusoid=halves"), tmp_path / "out"
    assert command(["export", str(run), "--to", "hf", str(out)]) == 0
    theirs = transformers.MarianMTModel.from_pretrained(out).eval()
    loaded = protoformer.load(run)
    translator = Translator(loaded, TranslationRequest(beams=1, max_extra_tokens=5))
    opened = Translator(protoformer.load(out), TranslationRequest(beams=1, max_extra_tokens=5))
    assert opened.translate_chunk(TEXTS) == translator.translate_chunk(TEXTS)
    assert command(["export", str(out), "--to", "hf", str(tmp_path / "again")]) == 0
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (out / "model.safetensors").read_bytes()
    words = transformers.AutoTokenizer.from_pretrained(out)
    assert (theirs.config.decoder_start_token_id, theirs.config.eos_token_id) == (
        WORDS.vocab_size,
        WORDS.vocab_size + 1,
    )
    again = instantiate(loaded.config, "model.template", tokenizer=read_tokenizer(out))
    assert (again.bos_id, again.eos_id, again.suppressed_ids) == (
        WORDS.vocab_size,
        WORDS.vocab_size + 1,
        [WORDS.vocab_size],
    )
    assert read_tokenizer(out).encode(TEXTS) == WORDS.encode(TEXTS)
    assert (theirs.generation_config.num_beams, theirs.generation_config.max_length) == (4, 64)
    assert theirs.generation_config.bad_words_ids == [[WORDS.vocab_size]]
    for text, ids in zip(TEXTS, WORDS.encode(TEXTS), strict=True):
        source = words(text, return_tensors="pt")["input_ids"]
        assert source.tolist() == [[*ids, WORDS.vocab_size + 1]]
        actual = theirs.generate(
            source, num_beams=1, do_sample=False, max_new_tokens=source.shape[1] + 5,
            bad_words_ids=[[WORDS.vocab_size]], forced_eos_token_id=None,
        )  # fmt: skip
        ((best,),) = translator.translate_chunk([text])
        assert best.text == " ".join(words.decode(actual[0], skip_special_tokens=True).split())


def test_a_folder_of_marians_opens_writes_the_same_and_goes_back(tmp_path: Path) -> None:
    """Weights and both sides' words, as `Helsinki-NLP/opus-mt-*` have them."""
    given, out = tmp_path / "given", tmp_path / "out"
    theirs = write_model(given)
    words = read_tokenizer(given)
    completed = run_training(
        [
            *("model=opus_mt_en_de", "task=translate/multi30k_en_de", f"init_from={given}", "source=sample"),
            *("source.rows=20", "recipe.max_steps=1", "recipe.lr=1e-9", "recipe.average=1", "task.max_len=40"),
            *("hardware=cpu", "tracking=none", "task.module.max_extra_tokens=2", f"paths.outputs={tmp_path}"),
        ]
    )
    assert completed == 0
    (run,) = (tmp_path / "opus_mt_en_de" / "translate" / "multi30k_en_de").iterdir()
    assert command(["export", str(run), "--to", "hf", str(out)]) == 0
    tokenizer = transformers.MarianTokenizer.from_pretrained(out)
    back = transformers.MarianMTModel.from_pretrained(out).eval()
    for name, tensor in theirs.state_dict().items():
        torch.testing.assert_close(back.state_dict()[name], tensor, atol=1e-5, rtol=0)
    translator = Translator(protoformer.load(run), TranslationRequest(beams=1, max_extra_tokens=5))
    for text in sentences(4, 5):
        source = tokenizer(text, return_tensors="pt")["input_ids"]
        actual = back.generate(
            source, num_beams=1, do_sample=False, max_new_tokens=source.shape[1] + 5, max_length=None,
            bad_words_ids=[[words.id("<pad>")]], forced_eos_token_id=None,
        )  # fmt: skip
        ((best,),) = translator.translate_chunk([text])
        pieces = [piece for piece in actual[0].tolist() if piece not in (words.id("<pad>"), words.id("</s>"))]
        assert best.text == " ".join(words.decode(pieces).split())


def test_what_marian_cannot_say_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["export", str(write_run(tmp_path)), "--to", "hf", str(tmp_path / "out")]) == 2
    assert "Marian's sinusoids are in halves" in capsys.readouterr().err
