"""Every in-context task on rows of its schema: prompts, shots, a whole evaluation, and templates that do not change unseen."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from protoformer.data.prompts.datamodule import InContextReferences
from protoformer.models.gpt import gpt
from protoformer.modules.in_context.evaluation import InContextEvaluation, evaluate_scored
from protoformer.modules.in_context.module import InContextModule
from protoformer.modules.in_context.written import evaluate_answers
from protoformer.text.tokenizers import Tokenizer

from . import catalogue
from .catalogue import GOLDEN, PAGE, TASKS, fingerprint, page_with_table, task, without_target


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return catalogue.tokenizer()


@pytest.fixture(scope="module")
def backbone(tokenizer: Tokenizer) -> Any:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"d_model": 16, "n_layers": 1, "n_heads": 2, "d_ff": 16, "max_seq_len": 4096}
    return gpt(**sizes, vocab_size=tokenizer.vocab_size, norm="pre").eval()


def perfect(references: InContextReferences, main: list[Any], max_new_tokens: int | None) -> InContextEvaluation:
    """The evaluation of a model that is always right."""
    table = references.table
    examples = [references.example(number) for number in range(len(table))]
    first = torch.tensor(table.first_sequence.tolist())
    if max_new_tokens is not None:
        written = [references.tokenizer.encode([f" {example.answers[0]}"])[0] for example in examples]
        answers = torch.full((len(written), max(map(len, written))), -1)
        for row, ids in enumerate(written):
            answers[row, : len(ids)] = torch.tensor(ids)
        return evaluate_answers(references, first[:-1], answers, main)
    values = torch.tensor([[-99.0, 1.0, 0.0]]).repeat(int(first[-1]), 1).double()
    for number, example in enumerate(examples):
        values[int(first[number]) + example.gold] = torch.tensor([-0.5, 1.0, 1.0]).double()
        if references.has_unconditional:
            values[int(first[number]) + len(example.completions) : int(first[number + 1])] = torch.tensor(
                [-9.0, 1, 0]
            ).double()
    return evaluate_scored(references, torch.arange(int(first[-1])), values, main)


@pytest.mark.parametrize("name", TASKS)
def test_a_task_runs_on_rows_of_its_schema(name: str, tokenizer: Tokenizer, backbone: Any, tmp_path: Path) -> None:
    shots = 1 if task(name)["data"]["shots_split"] else 0
    node = task(name, shots)
    if "max_new_tokens" in node["data"]:
        node["data"]["max_new_tokens"] = node["module"]["max_new_tokens"] = 3
    data = catalogue.data_module(node, tokenizer, tmp_path)
    main = node["module"]["metrics"]
    tables = [(role, split) for role, splits in data.tables.items() for split in splits]
    assert tables
    for role, split in tables[:1]:
        table, references = data.tables[role][split], data.references(role, split)
        module = InContextModule(
            backbone=backbone, splits={"val": [split]}, **{**without_target(node["module"]), "metrics": main}
        )
        module.references = {"val": {split: references}}
        with torch.inference_mode():
            outputs = module.eval_step(data.collate(table)(list(range(len(table)))))
        evaluation = module.evaluate("val", split, outputs)
        assert list(evaluation.scores) == main
        assert all(-1 <= value <= 1 or math.isnan(value) for value in evaluation.scores.values())
        ratios = {key: sum(pair[0]) / max(1, sum(pair[1])) for key, pair in evaluation.example_ratios().items()}
        assert ("exact_match" in ratios) == (name == "incontext/multirc")
        measured = {**evaluation.scores, **evaluation.other_metrics}
        assert ratios == {key: pytest.approx(measured[key]) for key in ratios}
        assert len(list(evaluation.rows())) == len(data.passages(role, split)) == len(table)
        assert evaluation.notes["prompts"].startswith(f"version:{node['rows']['version']}|shots:{shots}")
        right = perfect(references, main, node["module"].get("max_new_tokens"))
        assert right.scores == dict.fromkeys(main, pytest.approx(1.0, abs=0.02)), name
        confidences = right.confidences()
        assert (confidences is None) == (references.answer_type != "choice")
        assert confidences is None or confidences.calibration().accuracy == pytest.approx(1.0, abs=0.02)


def test_the_turns_of_a_row_are_a_dialog(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """QuAC's HEQ-D: a wrong answer to one turn takes its dialog, no other one."""
    data = catalogue.data_module(task("incontext/quac"), tokenizer, tmp_path)
    ((role, tables),) = [each for each in data.tables.items() if each[1]]
    references = data.references(role, min(tables))
    texts = [references.example(number).answers[0] for number in range(len(references.table))]
    texts[4] = "nothing of this"
    ids = tokenizer.encode(texts)
    answers = torch.tensor([each + [-1] * (max(map(len, ids)) - len(each)) for each in ids])
    evaluation = evaluate_answers(references, torch.arange(len(texts)), answers, ["quac_f1"])
    assert evaluation.scores == {"quac_f1": pytest.approx(8 / 9)}
    assert evaluation.other_metrics["heq_q"] == pytest.approx(8 / 9)
    assert evaluation.other_metrics["heq_d"] == pytest.approx(2 / 3)
    ratios = {name: (sum(above), sum(below)) for name, (above, below) in evaluation.example_ratios().items()}
    assert ratios == {"quac_f1": (pytest.approx(8), 9), "heq_q": (8, 9), "heq_d": (2, 3)}


@pytest.mark.parametrize("name", TASKS)
def test_templates_do_not_change_unseen(name: str) -> None:
    """After a change: raise task.rows.version, and `python -m tests.incontext.catalogue --write`."""
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    assert fingerprint(name) == golden.get(name)


def test_no_golden_prompts_of_other_tasks() -> None:
    assert list(json.loads(GOLDEN.read_text(encoding="utf-8"))) == TASKS


def test_the_page_lists_the_tasks() -> None:
    """After a change: `python -m tests.incontext.catalogue --write`."""
    assert PAGE.read_text(encoding="utf-8") == page_with_table()
