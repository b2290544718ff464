"""The cost of an evaluation by prompts: tokens of the tree of prefixes, and the printed plan."""

from pathlib import Path

import pytest

from protoformer.config.compose import compose
from protoformer.planning.evaluation import prompt_tokens, tree_tokens
from protoformer.planning.plan import print_plan

SAMPLE = ["model=gpt2_tiny", "task=incontext/copa", "source=sample", "source.rows=6", "hardware=cpu"]


def test_tokens_of_a_tree_counted_by_hand() -> None:
    sequences = [[1, 2, 3, 9], [1, 2, 4, 9], [1, 2, 3, 5, 9], [7, 9]]  # the last token of each is only predicted
    assert tree_tokens(sequences) == (11, 6)  # 1 2 3 5, 4, 7


def test_shots_are_counted_for_each_prompt_and_run_once(tmp_path: Path) -> None:
    cache = f"paths.cache={tmp_path}"
    plain = prompt_tokens(compose([*SAMPLE, cache]))
    shots = prompt_tokens(compose([*SAMPLE, cache, "task.shots=3"]))
    assert not isinstance(plain, str)
    assert not isinstance(shots, str)
    assert (plain.examples, plain.sequences) == (shots.examples, shots.sequences) == (6, 12)
    more, run_more = shots.requested - plain.requested, shots.computed - plain.computed
    assert 0 < run_more < more / 11  # of twelve sequences with the same shots


def test_printed_plan_of_an_evaluation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    print_plan(compose([*SAMPLE, f"paths.cache={tmp_path}", "task.shots=2"]))
    printed = capsys.readouterr().out
    assert "only tested" in printed
    assert "6 examples, 12 sequences of " in printed
    assert " are run: each is used " in printed
    assert "FLOP in all" in printed
    print_plan(compose(["model=gpt2_tiny", "task=incontext/piqa", "source=sample", f"paths.cache={tmp_path}"]))
    assert "unknown: source=sample has no baber/piqa" in capsys.readouterr().out
