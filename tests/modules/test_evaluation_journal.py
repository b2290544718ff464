"""Evaluated batches on disk: read back to the bit, torn lines cut, those of other code or data dropped."""

from pathlib import Path

import torch

from protoformer.modules.evaluation_journal import EvaluationJournal

OUTPUTS = (torch.tensor([3, 4]), torch.tensor([[0.1, float("nan")], [1 / 3, -1e-300]], dtype=torch.double))


def test_a_batch_comes_back_to_the_bit_on_any_rank(tmp_path: Path) -> None:
    EvaluationJournal(tmp_path / "e", "digest").record("val", [3, 4], OUTPUTS)
    for rank in (0, 1):
        journal = EvaluationJournal(tmp_path / "e", "digest", rank)
        recorded = journal.recorded("val", [3, 4])
        assert recorded is not None
        assert torch.equal(recorded[0], OUTPUTS[0])
        assert recorded[1].dtype == torch.double
        assert recorded[1].numpy().tobytes() == OUTPUTS[1].numpy().tobytes()
        assert journal.recorded("val", [3]) is None
        assert journal.recorded("test", [3, 4]) is None


def test_a_torn_line_is_cut_off_and_written_again(tmp_path: Path) -> None:
    journal = EvaluationJournal(tmp_path, "digest")
    journal.record("val", [1], OUTPUTS)
    journal.record("val", [2], OUTPUTS)
    content = journal.file.read_bytes()
    journal.file.write_bytes(content[:-30])  # killed in the middle of a write
    again = EvaluationJournal(tmp_path, "digest")
    assert len(again) == 1
    again.record("val", [2], OUTPUTS)
    assert journal.file.read_bytes() == content


def test_batches_of_other_code_or_data_are_dropped(tmp_path: Path) -> None:
    EvaluationJournal(tmp_path, "before").record("val", [1], OUTPUTS)
    journal = EvaluationJournal(tmp_path, "after")
    assert len(journal) == 0
    assert len(EvaluationJournal(tmp_path, "before")) == 0


def test_nothing_is_left_once_the_result_is_written(tmp_path: Path) -> None:
    first, second = (EvaluationJournal(tmp_path / "e", "digest", rank) for rank in (0, 1))
    second.record("val", [1], OUTPUTS)
    first.remove()
    assert not (tmp_path / "e").exists()
