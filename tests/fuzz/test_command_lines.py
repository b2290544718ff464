"""Mutated command lines: every verb works, or says in one line on stderr what is wrong, with exit code 2."""

import io
import os
import random
import shlex
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from protoformer import cli
from protoformer.errors import ConfigurationError

CASES = 600
COMPOSING = ("train", "prepare", "plan")  # a tenth of a second each: a third as many as of the others
# none of these gets as far as to train, measure or download: the files and runs that they name are not there
LINES = {
    "train": "model=bert_l2_h128 task=glue/rte init_from=scratch source=local source.root=nowhere recipe.lr=1e-4 "
    "recipe.epochs=3 task.data.on_bad_row=skip 'task.splits.validation={a: validation, b: test}' seed=1",
    "prepare": "model=bert_l2_h128 task=squad/v2 init_from=scratch source=local source.root=nowhere task.max_len=64",
    "plan": "model=bert_l2_h128 task=glue/rte init_from=scratch recipe.batch_size=0 recipe.max_steps=10 seed=0",
    "list": "models tasks",
    "evaluate": "nowhere task=glue/rte source=local source.root=nowhere",
    "settings": "recipe task.max_len",
    "predict": "nowhere --text 'the cat' --pair x --top 3 --file in.csv --out out.jsonl",
    "translate": "nowhere --file in.txt --out out.txt --beams 4 --alpha 0.6 --max-extra-tokens 50 --n-best 2",
    "attention": "nowhere --text 'the cat' --text-b x --out page.html --layers 1,2 --padding 1",
    "generate": "nowhere --prompt 'the cat' --max-new 3 --temperature 1 --top-k 5 --top-p 0.9 --samples 2 --seed 1 --stop .",
    "report": "nowhere --csv a.csv --markdown a.md",
    "compare": "nowhere --with elsewhere --resamples 100",
    "submission": "glue nowhere --partial --out submission.zip",
    "export": "nowhere folder --to hf",
    "complexity": "--n 32 64 --d 64 --threads 1 --quick --out folder",
    "tokenizer": "train nowhere.txt --kind wordpiece --size 300 --out tokenizer.json --alphabet 10",
}
VALUES = [
    "", " ", "0", "-1", "-0", "1e999", "nan", "inf", str(2**70), "9" * 5000, "null", "true", "[]", "{}", "[", "{a", "'", '"',
    "\\", "é中😀", "\u202e", "a=b", "=", "==", "*", "[1,2]", "{a: 1}", "${seed}", "${nothing}", "???",
    "${oc.env:NOTHING}", "x" * 3000, "\n", "a\nb", "\t", "\r", "\x1b[31m", "%s%n", "-", "--", "1,2", "range(1,3)", "glob(*)",
    "@", "1/2", "0x10", os.fsdecode(b"\xff"), "\ud800",
]  # fmt: skip
WORDS = [
    "+new=1", "++seed=2", "~task", "~nothing", "model", "=3", "task.rows", "task=", "seed=", "recipe=nothing", "a..b=1", ".=1",
    "--nothing", "-x", "--multirun", "--cfg", "--help=1", "--config-dir", "--config-dir=nowhere", "debug=fast", "a.b.c.d=1",
    "task.nothing.more=1", "task@x=glue/rte", "experiment=nothing", "_target_=os.system", "hydra.run.dir=x",
    "model._target_=os.system",
]  # fmt: skip


def misspelt(draw: random.Random, word: str) -> str:
    """A word with a letter left out, doubled, or replaced, or two that change places."""
    at = draw.randrange(len(word)) if word else 0
    change = draw.choice(["", word[at : at + 1] * 2, draw.choice("aZ_-.=é0 ")])
    return word[:at] + change + word[at + 1 :]


def mutated(draw: random.Random, words: list[str]) -> list[str]:
    words = list(words)
    at = draw.randrange(len(words)) if words else 0
    kind = draw.choice(["value", "misspell", "drop", "repeat", "insert", "cut", "swap"])
    if kind == "insert" or not words:
        words.insert(at, draw.choice([*WORDS, *VALUES]))
    elif kind == "value":
        name, equals, _ = words[at].partition("=")
        words[at] = name + equals + draw.choice(VALUES) if equals else draw.choice(VALUES)
    elif kind == "misspell":
        words[at] = misspelt(draw, words[at])
    elif kind == "drop":
        del words[at]
    elif kind == "repeat":
        words.insert(draw.randrange(len(words)), words[at])
    elif kind == "cut":
        words[at] = words[at].partition("=")[0]
    else:
        draw.shuffle(words)
    return words


def outcome(words: list[str]) -> tuple[int, str]:
    """The exit code and what stands on stderr, each stream as the terminal's encodes it."""
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    err = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace", write_through=True)
    with redirect_stdout(out), redirect_stderr(err):
        try:
            code = cli.main(words)
        except SystemExit as leaving:
            code = int(leaving.code or 0)
    return code, err.buffer.getvalue().decode()  # type: ignore[attr-defined]


def test_mutated_command_lines_work_or_are_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PROTOFORMER_OUTPUTS", str(tmp_path / "outputs"))

    def measure(grid: object) -> None:
        raise ConfigurationError("it would measure")

    monkeypatch.setattr("protoformer.complexity.results.measure_grid", measure)
    verbs = [*COMPOSING, *3 * [verb for verb in LINES if verb not in COMPOSING]]
    outcomes: Counter[tuple[str, int]] = Counter()
    for case in range(CASES):
        draw = random.Random(case)
        verb = verbs[case % len(verbs)]
        words = shlex.split(LINES[verb])
        for _ in range(draw.randint(1, 3)):
            words = mutated(draw, words)
        line = [misspelt(draw, verb) if draw.random() < 0.03 else verb, *words]
        code, errors = outcome(line)
        assert code in (0, 2), (line, code, errors)
        if code == 2:
            assert errors.startswith("error: "), (line, errors)
            assert (errors.count("\n"), errors[-1]) == (1, "\n"), (line, errors)
            assert not set("\r\x1b\x0b\x0c\x85\u2028\u2029") & set(errors), (line, errors)
        outcomes[verb, code] += 1
    assert sum(outcomes.values()) == CASES
    assert all(outcomes[verb, 2] > CASES / len(verbs) / 3 for verb in LINES), outcomes
