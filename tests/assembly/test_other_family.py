"""A run of another family as `init_from`: one line that names its model, whatever the tasks are."""

from pathlib import Path

import pytest

from protoformer.commands.train import main as train

from ..inference.test_export import cased, write_run


@pytest.mark.parametrize(
    ("model", "task"), [("gpt2_tiny", "glue/sst2"), ("gpt2_tiny", "pretrain/clm"), ("transformer_encoder", "glue/sst2"),
                        ("transformer_tiny", "translate/multi30k_en_de"), ("cnn_tiny", "glue/sst2")]
)  # fmt: skip
def test_it_is_refused(tmp_path: Path, model: str, task: str, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "earlier", "glue/sst2", cased(tmp_path / "words"))
    words = [f"model={model}", f"task={task}", f"init_from={run}", "source=sample", "debug=fast", "tracking=none"]
    assert train([*words, f"paths.outputs={tmp_path}"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert f"is a run of model=bert, whose weights do not fit model={model}; give model=bert" in error
