"""The built wheel carries its configs: installed elsewhere, the command works in an empty folder."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_wheel_works_in_an_empty_folder(tmp_path: Path) -> None:
    wheels, installed, empty = tmp_path / "wheels", tmp_path / "installed", tmp_path / "empty"
    empty.mkdir()
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(wheels), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, timeout=120)
    (wheel,) = wheels.glob("protoformer-*.whl")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(installed)]
    subprocess.run([*install, str(wheel)], check=True, capture_output=True, timeout=120)

    def command(*overrides: str) -> subprocess.CompletedProcess[str]:
        environ = {**os.environ, "PYTHONPATH": str(installed)}
        return subprocess.run(
            [sys.executable, str(installed / "bin" / "protoformer"), *overrides],
            cwd=empty, env=environ, capture_output=True, text=True, timeout=120,
        )  # fmt: skip

    completed = command("list", "models")
    assert completed.returncode == 0, completed.stderr
    assert "bert_large" in completed.stdout
    assert list(empty.iterdir()) == []
    wrong = command("plan", "model=bert", "task=glue/mnlii")
    assert wrong.returncode == 2
    assert "glue/mnli" in wrong.stderr
    assert (installed / "protoformer" / "views" / "attention_page" / "page.js").is_file()
    assert (installed / "protoformer" / "py.typed").is_file()
    assert list(installed.glob("protoformer-*.dist-info/licenses/LICENSE"))
    where = "import protoformer.config.groups as o; print(o.conf_dir())"
    environ = {**os.environ, "PYTHONPATH": str(installed)}
    actual = subprocess.run([sys.executable, "-c", where], cwd=empty, env=environ, capture_output=True, text=True)
    assert actual.stdout.strip() == str(installed / "protoformer" / "conf")
