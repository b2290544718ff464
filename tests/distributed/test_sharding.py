"""Units of a sharded module, on two gloo ranks: optimizers, norms, whole weights for one rank, files that one process reads."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh

from protoformer.distributed.collectives import init_process_group
from protoformer.distributed.launcher import launch
from protoformer.distributed.sharding import files, units
from protoformer.errors import ConfigurationError, WeightsError
from protoformer.modules.objective.gradient_normalizer import global_norm
from protoformer.optim.build import build_optimizer
from protoformer.optim.optimization import Optimization

from ..forked_ranks import forked_ranks

HARDWARE: dict[str, Any] = {
    "accelerator": "cpu",
    "devices": 2,
    "nodes": 1,
    "rendezvous": None,
    "grace": 5,
    "timeout": 60,
}
OPTIMIZERS = [
    Optimization(lr=0.1),
    Optimization(lr=0.1, bias_correction=False),
    Optimization(lr=0.1, optimizer="sgd", momentum=0.9),
]


class Net(nn.Module):
    """Two layers and a head of one row, which leaves the second rank without a part of it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.layers = nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 3)])
        self.head = nn.Linear(3, 1)

    def training_step(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x).tanh()
        return self.head(x).square().sum()

    validation_step = test_step = training_step


def trained(net: Net, options: Optimization, x: torch.Tensor, ranks: int) -> float:
    """Three steps on the mean over `ranks` of their losses; gives the last norm of the gradient."""
    optimizer = build_optimizer(net.parameters(), options)
    norm = 0.0
    for _ in range(3):
        optimizer.zero_grad()
        (net.training_step(x) / ranks).backward()
        norm = float(global_norm([p.grad for p in net.parameters() if p.grad is not None]))
        optimizer.step()
    return norm


def sharded_net() -> Net:
    net = Net()
    units.shard(net, net.layers, init_device_mesh("cpu", (2,)), bf16=False)
    return net


def on_a_rank(config: dict[str, Any], folder: str) -> dict[str, Any]:
    init_process_group(config["hardware"])
    rank = torch.distributed.get_rank()
    x = torch.arange(6.0).view(2, 3)[rank : rank + 1]
    results: dict[str, Any] = {}
    for index, options in enumerate(OPTIMIZERS):
        net = sharded_net()
        norm = trained(net, options, x, ranks=1)
        weights = {name: units.full_tensor(tensor) for name, tensor in net.state_dict().items()}
        results[str(index)] = (norm, {name: tensor.tolist() for name, tensor in weights.items()})
    with units.full_weights(net):
        results["whole"] = list(net.layers[0].weight.shape) if rank == 0 else None
    results["part"] = list(units.local_tensors([net.layers[0].weight])[0].shape)
    tensors = dict(net.state_dict())
    files.write_shards(tensors, Path(folder), Path(folder) / "last.ckpt")
    torch.distributed.barrier()
    results["manifest"] = dict(files.describe(tensors, Path(folder), "shards"))
    return results


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, Any], Path]]:
    folder = tmp_path_factory.mktemp("shards")
    with forked_ranks():
        yield launch(on_a_rank, {"hardware": HARDWARE}, str(folder)), folder


@pytest.mark.parametrize("index", range(len(OPTIMIZERS)))
def test_every_optimizer_steps_on_shards_as_on_whole_weights(results: Any, index: int) -> None:
    net = Net()
    expected_norm = trained(net, OPTIMIZERS[index], torch.arange(6.0).view(2, 3), ranks=2)
    norm, weights = results[0][str(index)]
    assert norm == pytest.approx(expected_norm, rel=1e-4)
    for name, tensor in net.state_dict().items():
        torch.testing.assert_close(torch.tensor(weights[name]), tensor, rtol=1e-4, atol=1e-5)


def test_one_rank_may_have_all_weights_and_gives_them_back(results: Any) -> None:
    assert results[0]["whole"] == [3, 3]
    assert results[0]["part"] == [2, 3]


def test_one_process_reads_the_shards_of_two_ranks(results: Any) -> None:
    manifest, folder = results[0]["manifest"], results[1]
    assert sorted(manifest["files"]) == sorted(path.name for path in folder.iterdir())
    assert {path.suffix for path in folder.iterdir()} == {".safetensors", ".json"}  # nothing that would be unpickled
    whole = files.read_whole(folder, manifest)
    _, weights = results[0][str(len(OPTIMIZERS) - 1)]
    assert {name: tensor.tolist() for name, tensor in whole.items()} == weights


def test_missing_and_truncated_shards_are_named(results: Any, tmp_path: Path) -> None:
    manifest, folder = results[0]["manifest"], results[1]
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    _, first, second = sorted(manifest["files"])
    (tmp_path / first).write_bytes((tmp_path / first).read_bytes()[:-8])
    with pytest.raises(WeightsError, match=f"{first}: corrupt or truncated"):
        files.read_whole(tmp_path, manifest)
    (tmp_path / first).write_bytes((folder / first).read_bytes())
    (tmp_path / second).unlink()
    with pytest.raises(WeightsError, match=f"{second}: missing"):
        files.read_whole(tmp_path, manifest)


def test_a_torch_that_is_too_old_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(units.FSDPModule, "reset_iter_state")
    with pytest.raises(ConfigurationError, match=r"hardware\.fully_shard=true needs torch 2\.13, and this is"):
        units.check_shardable(nn.Linear(2, 2), "fp32", "adamw")
