"""The bounded part of `make soak`: a run killed three times, with other clocks and a slow disk, ends in the same bits."""

import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from cases import BERT, COMMON
from comparison import differences
from faults import Faults
from workspace import Workspace

COMMAND = (
    f"{BERT} task=glue/mrpc source=sample source.rows=100 init_from=scratch recipe.epochs=2 recipe.batch_size=16 "
    f"task.max_len=32 recipe.lr=3e-3 trainer.val_check_interval=5 trainer.checkpoint_every=3 {COMMON}"
)


def test_a_run_that_is_killed_again_and_again_ends_in_the_same_bits(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    kills = (  # before anything is saved; with half a checkpoint; with all but the result
        Faults("fsync", "last.ckpt", nth=1, clock=3600.0),
        Faults("replace", "last.ckpt", nth=2, clock=-3600.0),
        Faults("replace", "result.json", fsync_seconds=0.01),
    )
    undisturbed = workspace.start(COMMAND, "expected", Faults())
    for number, faults in enumerate(kills):
        marker = tmp_path / str(number)
        killed = workspace.start(COMMAND, "actual", replace(faults, marker=str(marker)))
        assert workspace.finish(killed, "actual", 120) == -9
        assert marker.exists()
        assert workspace.orphans(killed) == []
    assert workspace.finish(undisturbed, "expected", 120) == 0
    assert workspace.finish(workspace.start(COMMAND, "actual", Faults()), "actual", 120) == 0
    assert differences(workspace.run_folder("expected"), workspace.run_folder("actual")) == []
    assert list(tmp_path.rglob("*.part")) == []
