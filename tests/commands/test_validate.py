"""`protoformer validate`: prompts as they are read, what is doubtful about them, and a table of all tasks."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Tokenizer as HFTokenizer
from tokenizers import decoders, models, pre_tokenizers

from protoformer import cli
from protoformer.text.tokenizers import END_OF_TEXT

COPA = {
    "premise": "The man fell.",
    "choice1": "He was tired.",
    "choice2": "It rained.",
    "question": "cause",
    "label": 1,
}
Validate = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A token a byte, and one for `so it`."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {symbol: number for number, symbol in enumerate([*alphabet, "soĠ"])}
    built = HFTokenizer(models.BPE(vocab={**vocabulary, "so": len(vocabulary)}, merges=[("s", "o"), ("so", "Ġ")]))
    built.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    built.decoder = decoders.ByteLevel()
    built.add_special_tokens([END_OF_TEXT])
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    built.save(str(path))
    return path


@pytest.fixture
def validate(tokenizer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Validate:
    """The command on local rows of COPA: the exit code, and what it printed."""

    def run(
        *words: str, rows: list[dict[str, object]] | None = None, **splits: list[dict[str, object]]
    ) -> tuple[int, str]:
        for split, content in {"validation": rows or [COPA] * 3, **splits}.items():
            file = tmp_path / "aps" / "super_glue" / "copa" / f"{split}.jsonl"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("\n".join(map(json.dumps, content)))
        source = ["source=local", f"source.root={tmp_path}", f"paths.cache={tmp_path / 'cache'}"]
        code = cli.main(["validate", *words, *source, "--model", "gpt2_tiny", "--tokenizer", str(tokenizer)])
        printed = capsys.readouterr()
        return code, printed.err if code else printed.out

    return run


def test_prompts_are_printed_with_choices_gold_and_tokens(validate: Validate) -> None:
    train = [{**COPA, "premise": f"Man {n} fell.", "label": 0} for n in range(3)]
    code, printed = validate("incontext/copa", "task.shots=1", "--rows", "2", train=train)
    assert code == 0
    lines = printed.splitlines()
    assert lines[0].startswith("incontext/copa  version:1|shots:1|split:train")
    assert lines[2].endswith("tokens of prompt, 1 shots")
    assert any(line.startswith("  | Man ") and line.endswith("because he was tired.") for line in lines)
    assert "  | The man fell because" in lines
    assert "* 2 ' it rained.' (11 tokens)" in lines
    assert "  1 ' he was tired.' (14 tokens)" in lines
    assert lines[-1].startswith("2 prompts, ")
    assert lines[-1].endswith("findings: none")


@pytest.mark.parametrize(
    ("change", "words", "finding"),
    [
        ({"choice2": "He was tired. Very."}, [], "choice 1 is a prefix of choice 2: ' he was tired.', ' he was tired. Very.'"),
        ({"choice2": "He was tired."}, [], "choices 1 and 2 are equal: ' he was tired.'"),
        ({"label": 2}, [], "a label outside 0 to 1, counted from task.rows.first_label=0 (2)"),
        ({"choice1": " "}, [], "an empty choice"),
        ({"premise": None}, [], "no value of the field 'premise'"),
        ({"question": "effect"}, [], "a token crosses the boundary from the prompt to ' it rained.'"),
        ({"premise": "Well, it rained."}, ['task.rows.context="{premise}"'], "the prompt ends in its answer, 'it rained.'"),
        ({}, ['task.rows.context="{premise} {label}"'], "the context shows the answer: it reads the field 'label'"),
        ({}, ["task.max_len=20"], "the prompt loses its beginning: the model reads 20 tokens"),
        ({}, ["task.shots=1", "task.max_len=40"], "1 of 1 shots are left out: the model reads 40 tokens"),
    ],
)  # fmt: skip
def test_what_is_doubtful_is_said_with_its_row(
    validate: Validate, change: dict[str, object], words: list[str], finding: str
) -> None:
    good = {**COPA, "premise": "The woman fell."}
    code, printed = validate("incontext/copa", *words, rows=[good, {**COPA, **change}], train=[good, good])
    assert code == 0
    assert finding in printed
    assert "findings: none" not in printed
    if change:
        assert "row 2: " in printed
        assert "row 1: " not in printed.rpartition("row 2: ")[2]


def test_the_example_among_its_shots_and_answers_in_most_prompts(validate: Validate) -> None:
    rows = [{**COPA, "premise": f"It rained. Man {n} fell."} for n in range(6)]
    _, printed = validate("incontext/copa", "task.shots=2", rows=rows, train=rows[:3])
    assert "row 1: the question stands among its shots, with its answer" in printed
    assert "6 of 6 prompts name the right choice and no other" in printed


def test_a_row_of_ones_own(validate: Validate, tmp_path: Path) -> None:
    row = {**COPA, "premise": "The tree fell."}
    code, printed = validate("incontext/copa", "--row", json.dumps(row))
    assert code == 0
    assert "  | The tree fell because" in printed
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    assert validate("incontext/copa", "--row", str(tmp_path / "rows.jsonl")) == (0, printed)


def test_tasks_of_other_groups_have_prompts_too(validate: Validate) -> None:
    code, printed = validate("lm/lambada", "--row", json.dumps({"text": "Ann had a dog. She loved her dog"}))
    assert code == 0
    assert "  | Ann had a dog. She loved her" in printed


def test_a_table_of_all_tasks_says_which_data_is_missing(validate: Validate) -> None:
    code, printed = validate("incontext/words")
    assert code == 0
    assert printed.splitlines()[0].split()[:3] == ["task", "version", "answer"]
    lines = [line for line in printed.splitlines() if line.startswith("incontext/words/")]
    assert len(lines) == 5
    assert all(line.rstrip().endswith("not read") for line in lines)
    assert "not read: rows of 5 of 5 tasks; the first: " in printed


def test_without_a_task_all_are_validated(validate: Validate, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = ("incontext/copa", "lm/wikitext2", "lm/files", "glue/rte")
    monkeypatch.setattr("protoformer.commands.tasks.validate.options_of", lambda group, folders: kept)
    code, printed = validate("--rows", "2")
    assert code == 0
    names = [line.split()[0] for line in printed.splitlines()]
    assert names == ["task", "incontext/copa", "lm/wikitext2", "not"]  # files of one's own are named
    assert "not read: rows of 1 of 2 tasks" in printed


def test_running_text_is_shown_and_counted(validate: Validate, tmp_path: Path) -> None:
    code, printed = validate("lm/wikitext103", "--row", json.dumps([{"text": "a b , c"}, {"text": "d ( e"}]))
    assert code == 0
    assert "lm/wikitext103  measure: perplexity_per_word  windows of 512 tokens, strides 512" in printed
    assert "  | a b, c\n  | d (e" in printed
    assert "2 rows, 1 texts, " in printed
    assert "findings: 2 tokens have no inverse in the de-tokeniser" in printed
    file = tmp_path / "Salesforce" / "wikitext" / "wikitext-2-raw-v1" / "test.jsonl"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"text": "a cat"}))
    _, table = validate("lm")
    (line,) = [line.split() for line in table.splitlines() if line.startswith("lm/wikitext2 ")]
    assert line == ["lm/wikitext2", "-", "every", "token", "perplexity_per_token", "1", "-", "5", "none"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["incontext/cop"], "incontext/cop: no in-context task, and none of lm/; did you mean incontext/copa?"),
        (["glue/rte"], "glue/rte: no in-context task, and none of lm/"),
        (["incontext/copa", "--row", "{1"], "--row: not valid JSON"),
        (["incontext/copa", "--row", "absent.jsonl"], "absent.jsonl: no such file"),
        (["incontext/copa", "--row", "[1]"], "an object, or a list of objects"),
        (["incontext/copa", "--row", '{"premise": "x"}'], "no column 'question', 'choice1'"),
        (["incontext/words", "--row", "{}"], "name one task"),
        (["incontext/copa", "--rows", "0"], "--rows 0: at least 1"),
        (["incontext/copa", "model=gpt2"], "--model and model= are two ways"),
        (["incontext/copa", "incontext/rte"], "incontext/rte: neither KEY=VALUE"),
        (["incontext/copa", 'task.rows.context="{premise"'], "a brace that stands alone"),
    ],
)
def test_what_cannot_be_read_is_one_line(validate: Validate, words: list[str], message: str) -> None:
    code, printed = validate(*words)
    assert code == 2
    assert message in printed
    assert printed.startswith("error: ")
    assert printed.strip().count("\n") == 0
