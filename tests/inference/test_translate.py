"""`protoformer translate`: order, empty and long lines, n-best lists, and invalid options."""

import io
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sacrebleu
from torch import nn

from protoformer import cli
from protoformer.errors import ConfigurationError, DataError
from protoformer.inference import translate
from protoformer.inference.load import LoadedRun
from protoformer.inference.translate import TranslationRequest, Translator, decoded, output_lines
from protoformer.models.transformer import transformer
from protoformer.modules.kinds.translation import TranslationModule
from protoformer.text.tokenizers import whole_word_tokenizer

TEXTS = ["the dog runs", "", "a cat", "the old tree stands by the old river and the dog runs", "tree", "  "]


@pytest.fixture
def run() -> LoadedRun:
    """A random model; its start and end are new embeddings behind the vocabulary's words."""
    tokenizer = whole_word_tokenizer(TEXTS, "these texts")
    model = transformer(
        vocab_size=tokenizer.vocab_size + 2,
        d_model=16,
        n_layers=1,
        n_heads=2,
        d_ff=16,
        max_seq_len=40,
        output_bias=True,
    )
    for name, parameter in model.named_parameters():
        nn.init.normal_(parameter, mean=float("norm" in name and name.endswith("weight")), std=0.3)
    splits: Any = {"val": [""], "test": [""]}
    config = {
        "task": {"kind": "translation", "max_len": 9},
        "model": {"template": {"_target_": "protoformer.text.TranslationTemplate"}},
    }
    return LoadedRun(TranslationModule(backbone=model, splits=splits).eval(), tokenizer, config)


def test_lines_keep_their_order_and_do_not_depend_on_the_batch(run: LoadedRun) -> None:
    translator = Translator(run, TranslationRequest(beams=3, max_extra_tokens=6))
    together = list(translator.translate(TEXTS, chunk=4))
    assert [translations[0].text for translations in together][1] == ""
    assert [len(translations) for translations in together] == [3, 1, 3, 3, 3, 1]
    for text, translations in zip(TEXTS, together, strict=True):
        (alone,) = translator.translate([text])
        assert [translation.text for translation in alone] == [translation.text for translation in translations]
        assert [translation.score for translation in alone] == pytest.approx(
            [translation.score for translation in translations], abs=1e-4
        )
        assert [translation.score for translation in translations] == sorted(
            (translation.score for translation in translations), reverse=True
        )
    assert len({translations[0].text for translations in together if translations[0].text}) > 1


def test_long_lines_are_truncated_and_reported(run: LoadedRun) -> None:
    translator = Translator(run, TranslationRequest(beams=1, max_extra_tokens=4))
    list(translator.translate(TEXTS, chunk=2))
    assert translator.truncated == [4]


def test_command_with_files_and_n_best(
    run: LoadedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(translate, "load", lambda _: run)
    source, target = tmp_path / "in.txt", tmp_path / "out.txt"
    source.write_text("\n".join(TEXTS) + "\n", encoding="utf-8")
    assert cli.main(["translate", "RUN", "--file", str(source), "--out", str(target), "--max-extra-tokens", "5"]) == 0
    output = target.read_text(encoding="utf-8").split("\n")
    assert (len(output), output[1], output[-1]) == (7, "", "")
    assert "1 line truncated to 9 tokens: 4" in capsys.readouterr().err
    assert cli.main(["translate", "RUN", "--file", str(source), "--n-best", "2", "--max-extra-tokens", "5"]) == 0
    rows = [line.split(" ||| ") for line in capsys.readouterr().out.splitlines()]
    assert [int(row[0]) for row in rows] == [0, 0, 1, 2, 2, 3, 3, 4, 4, 5]
    assert rows[0][1] == output[0]
    assert float(rows[0][2]) >= float(rows[1][2])


def test_output_file_is_replaced_at_the_end(
    run: LoadedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The output may be the input file; after an unreadable line the earlier file is still there."""
    monkeypatch.setattr(translate, "load", lambda _: run)
    path, other = tmp_path / "text.txt", tmp_path / "other.txt"
    path.write_text("\ufeffthe dog runs\na cat\n", encoding="utf-8")
    other.write_text("the dog runs\na cat\n", encoding="utf-8")
    for file in (path, other):
        assert cli.main(["translate", "RUN", "--file", str(file), "--out", str(file), "--max-extra-tokens", "5"]) == 0
    assert path.read_text(encoding="utf-8") == other.read_text(encoding="utf-8")  # the byte-order mark is not text
    assert len(path.read_text(encoding="utf-8").splitlines()) == 2
    kept = path.read_bytes()
    other.write_bytes(b"the dog\n\xff\n")
    assert cli.main(["translate", "RUN", "--file", str(other), "--out", str(path), "--max-extra-tokens", "5"]) == 2
    assert "line 2: not UTF-8" in capsys.readouterr().err
    assert path.read_bytes() == kept
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.txt", "text.txt"]
    assert cli.main(["translate", "RUN", "--file", str(path), "--out", str(tmp_path)]) == 2
    assert "a folder; name a file in it" in capsys.readouterr().err


def test_an_interrupted_translation_is_continued(
    run: LoadedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(translate, "load", lambda _: run)
    monkeypatch.setattr(translate, "CHUNK", 2)
    source, target = tmp_path / "in.txt", tmp_path / "out.txt"
    source.write_text("\n".join(TEXTS) + "\n", encoding="utf-8")
    words = ["translate", "RUN", "--file", str(source), "--max-extra-tokens", "5", "--out"]
    assert cli.main([*words, str(tmp_path / "whole.txt")]) == 0
    chunks, calls = Translator.translate_chunk, []

    def interrupted(self: Translator, *arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return chunks(self, *arguments)

    monkeypatch.setattr(Translator, "translate_chunk", interrupted)
    assert cli.main([*words, str(target)]) == 130
    assert not target.exists()
    (partial,) = tmp_path.glob(".out.txt.*.partial")
    partial.write_bytes(partial.read_bytes() + b"half a li")
    assert cli.main([*words, str(target)]) == 0
    assert len(calls) == 4  # the last of the three chunks alone
    assert "4 lines are there, continuing" in capsys.readouterr().err
    assert target.read_bytes() == (tmp_path / "whole.txt").read_bytes()
    assert not list(tmp_path.glob(".out.txt.*"))


@pytest.mark.parametrize("changed", ["model", "file", "option"])
def test_half_a_translation_of_another_model_file_or_option_is_not_continued(
    run: LoadedRun, tmp_path: Path, changed: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(translate, "load", lambda _: run)
    monkeypatch.setattr(translate, "CHUNK", 2)
    source, target = tmp_path / "in.txt", tmp_path / "out.txt"
    source.write_text("\n".join(TEXTS) + "\n", encoding="utf-8")
    words = ["translate", "RUN", "--file", str(source), "--max-extra-tokens", "5", "--out", str(target)]
    chunks = Translator.translate_chunk

    def interrupted(self: Translator, texts: list[str], first: int) -> Any:
        if first:
            raise KeyboardInterrupt
        return chunks(self, texts, first)

    with monkeypatch.context() as patch:
        patch.setattr(Translator, "translate_chunk", interrupted)
        assert cli.main(words) == 130
    (partial,) = tmp_path.glob(".out.txt.*.partial")
    if changed == "model":
        next(run.model.parameters()).data.view(-1)[0] += 1e-6
    elif changed == "file":
        status = source.stat()
        source.write_text("\n".join([*TEXTS[:-2], "eert", "  "]) + "\n", encoding="utf-8")  # of the same size and time
        os.utime(source, ns=(status.st_atime_ns, status.st_mtime_ns))
    else:
        words += ["--beams", "2"]
    capsys.readouterr()
    assert cli.main(words) == 0
    error = capsys.readouterr().err
    assert f"{partial}: of another model, file or options, and not continued" in error
    assert "continuing" not in error
    assert len(target.read_text(encoding="utf-8").splitlines()) == len(TEXTS)


def test_reference(
    run: LoadedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(translate, "load", lambda _: run)
    copied = lambda _, texts, first=0: [[translate.ScoredText(text, 0.0)] for text in texts]  # noqa: E731
    monkeypatch.setattr(Translator, "translate_chunk", copied)
    source, target, reference = tmp_path / "in.txt", tmp_path / "out.txt", tmp_path / "ref.txt"
    source.write_text("\n".join(TEXTS) + "\n", encoding="utf-8")
    words = ["translate", "RUN", "--file", str(source), "--out", str(target), "--max-extra-tokens", "12"]
    assert cli.main(words) == 0
    hypotheses = target.read_text(encoding="utf-8").split("\n")[:-1]
    references = [f"the dog {text}" for text in hypotheses]
    reference.write_text("\n".join(references) + "\n", encoding="utf-8")
    assert cli.main([*words, "--reference", str(reference)]) == 0
    first, second = capsys.readouterr().out.splitlines()
    bleu = sacrebleu.corpus_bleu(hypotheses, [references]).score
    chrf = sacrebleu.corpus_chrf(hypotheses, [references]).score
    assert chrf > 10
    assert first.startswith(f"BLEU {bleu:.2f}  nrefs:1|case:mixed|eff:no|tok:13a")
    assert second.startswith(f"chrF {chrf:.2f}  nrefs:1|case:mixed")
    reference.write_text("one line\n", encoding="utf-8")
    assert cli.main([*words, "--reference", str(reference)]) == 2
    assert "6 translations and 1 reference: each line of the file needs one" in capsys.readouterr().err


def test_texts_of_the_command_line(
    run: LoadedRun, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(translate, "load", lambda folder: run)
    assert cli.main(["translate", "RUN", "--text", "the dog\nruns", "--text", "a cat", "--beams", "2"]) == 0
    translator = Translator(run, TranslationRequest(beams=2))
    expected = [best.text for best, *_ in translator.translate(["the dog runs", "a cat"])]
    assert capsys.readouterr().out.splitlines() == expected
    assert cli.main(["translate", "RUN", "--text", "a cat", "--file", "x"]) == 2
    assert capsys.readouterr().err == "error: --text and --file: give one of them\n"


def test_standard_input_line_by_line(
    run: LoadedRun, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(translate, "load", lambda _: run)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("tree\u2028dog\r\na cat".encode())))
    assert cli.main(["translate", "RUN", "--beams", "1", "--max-extra-tokens", "3"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_invalid_options_are_one_line_errors(
    run: LoadedRun, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(DataError, match="line 2: not UTF-8"):
        list(decoded([b"fine\n", b"\xff\n"]))
    with pytest.raises(ConfigurationError, match="--n-best 5: from 1 to the number of beams"):
        Translator(run, TranslationRequest(n_best=5))
    model = SimpleNamespace(backbone=nn.Linear(1, 1), other_command="")
    other = LoadedRun(model, run.tokenizer, {"task": {"kind": "span"}})  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="kind span does not translate"):
        Translator(other, TranslationRequest())
    monkeypatch.setattr(translate, "load", lambda _: run)
    for flags, message in (
        (["--beams", "0"], "beams=0: at least 1"),
        (["--max-extra-tokens", "0"], "max_extra_tokens=0: at least one token more"),
    ):
        assert cli.main(["translate", "RUN", *flags]) == 2
        assert message in capsys.readouterr().err
    assert cli.main(["translate", "RUN", "--file", "nowhere.txt"]) == 2
    assert "nowhere.txt: No such file" in capsys.readouterr().err
    assert list(output_lines(3, [translate.ScoredText("a", -1.0)], None)) == ["a"]


@pytest.mark.parametrize(
    ("tokens", "advice"),
    [
        (4000, "4000 source tokens at once; half as many, with the same results: --batch-tokens 2000"),
        (10, "10 source tokens at once; fewer beams than --beams 4, shorter texts"),  # a line has up to 9
    ],
)
def test_memory_that_runs_out_names_the_flag(
    run: LoadedRun, tmp_path: Path, tokens: int, advice: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def no_room(*_: Any) -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(translate, "load", lambda _: run)
    monkeypatch.setattr(translate, "generate_targets", no_room)
    (tmp_path / "in.txt").write_text("the dog runs\n")
    assert cli.main(["translate", "RUN", "--file", str(tmp_path / "in.txt"), "--batch-tokens", str(tokens)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: out of memory with {advice}")
    assert error.count("\n") == 1
