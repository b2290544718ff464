"""What a machine has: memory within control groups of both versions, cores by socket, entries of CUDA_VISIBLE_DEVICES."""

import os
from pathlib import Path

from protoformer.pool.machine import available_memory, cores, gpu_entries

GIB = 2**30


def write(root: Path, files: dict[str, object]) -> None:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{content}\n")


def test_available_memory_is_the_least_that_kernel_and_groups_leave(tmp_path: Path) -> None:
    assert available_memory(tmp_path) is None
    write(tmp_path, {"proc/meminfo": "MemTotal: 99 kB\nMemAvailable: 16777216 kB", "proc/self/cgroup": "0::/jobs/7"})
    assert available_memory(tmp_path) == 16 * GIB
    group = "sys/fs/cgroup/jobs"
    write(tmp_path, {f"{group}/7/memory.max": "max", f"{group}/7/memory.current": 5})
    assert available_memory(tmp_path) == 16 * GIB
    write(tmp_path, {f"{group}/memory.max": 8 * GIB, f"{group}/memory.current": 5 * GIB})
    assert available_memory(tmp_path) == 3 * GIB  # a limit above the own group counts too
    write(tmp_path, {f"{group}/memory.stat": f"anon 7\ninactive_file {2 * GIB}"})
    assert available_memory(tmp_path) == 5 * GIB  # pages of files can be dropped


def test_limits_of_the_first_version_count_and_its_absent_ones_do_not(tmp_path: Path) -> None:
    group = "sys/fs/cgroup/memory"
    write(tmp_path, {"proc/meminfo": "MemAvailable: 16777216 kB", "proc/self/cgroup": "4:memory:/a\n3:cpuset:/"})
    write(tmp_path, {f"{group}/memory.limit_in_bytes": 9223372036854771712, f"{group}/memory.usage_in_bytes": 5})
    assert available_memory(tmp_path) == 16 * GIB
    write(tmp_path, {f"{group}/a/memory.limit_in_bytes": 4 * GIB, f"{group}/a/memory.usage_in_bytes": GIB})
    assert available_memory(tmp_path) == 3 * GIB


def test_threads_of_a_core_and_cores_of_a_socket_stand_side_by_side(tmp_path: Path) -> None:
    own = sorted(os.sched_getaffinity(0))
    sockets = {core: index % 2 for index, core in enumerate(own)}
    for core, socket in sockets.items():
        write(tmp_path, {f"cpu{core}/topology/physical_package_id": socket, f"cpu{core}/topology/core_id": core})
    assert cores(tmp_path) == tuple([c for c in own if sockets[c] == 0] + [c for c in own if sockets[c] == 1])
    assert sorted(cores()) == own


def test_cards_are_shown_by_the_entries_that_show_them_here() -> None:
    assert gpu_entries(2, {}) == ["0", "1"]
    assert gpu_entries(2, {"CUDA_VISIBLE_DEVICES": "5, GPU-8932f937"}) == ["5", "GPU-8932f937"]
    assert gpu_entries(1, {"CUDA_VISIBLE_DEVICES": "3,-1,2"}) == ["3"]  # CUDA counts none behind a number that is none
    assert gpu_entries(0, {"CUDA_VISIBLE_DEVICES": ""}) == []
