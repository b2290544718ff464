"""docs/notebook.ipynb: its cells run in this process, and print what the notebook says.

python tests/docs/test_notebook.py --write     # run it anew and keep its outputs
"""

import ast
import base64
import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any

NOTEBOOK = Path(__file__).parents[2] / "docs" / "notebook.ipynb"


def outputs(source: str, names: dict[str, Any]) -> list[dict[str, Any]]:
    """The outputs of a cell: what it prints, and the value of a last expression."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    printed, value = io.StringIO(), None
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(io.StringIO()):
        exec(compile(tree, "cell", "exec"), names)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), "cell", "eval"), names)
    if source.rstrip().endswith("# not shown"):  # it holds times
        return []
    text = printed.getvalue()
    shown = [{"output_type": "stream", "name": "stdout", "text": text.splitlines(keepends=True)}] if text else []
    return shown if value is None else [*shown, _result(value)]


def _result(value: Any) -> dict[str, Any]:
    if not hasattr(value, "savefig"):
        data: dict[str, Any] = {"text/plain": [repr(value)]}
    else:
        image = io.BytesIO()
        value.savefig(image, format="png", dpi=60, metadata={"Software": None})
        data = {"image/png": base64.b64encode(image.getvalue()).decode(), "text/plain": ["a figure"]}
    return {"output_type": "execute_result", "execution_count": None, "metadata": {}, "data": data}


def run() -> dict[str, Any]:
    """The notebook with the outputs of a run of its cells."""
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    names: dict[str, Any] = {}
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for number, cell in enumerate(cells, start=1):
        cell["execution_count"] = number
        cell["outputs"] = outputs("".join(cell["source"]), names)
        for output in cell["outputs"]:
            if "execution_count" in output:
                output["execution_count"] = number
    return notebook


def stated(notebook: dict[str, Any]) -> list[list[Any]]:
    """The texts of all outputs; of a picture that it is there."""
    return [
        [
            "".join(output.get("text") or output["data"]["text/plain"])
            + ("png" if "image/png" in output.get("data", {}) else "")
            for output in cell["outputs"]
        ]
        for cell in notebook["cells"]
        if cell["cell_type"] == "code"
    ]


def test_the_notebook_prints_what_it_says() -> None:
    expected = stated(json.loads(NOTEBOOK.read_text(encoding="utf-8")))
    assert sum(map(len, expected)) >= 5
    assert stated(run()) == expected


if __name__ == "__main__" and sys.argv[1:] == ["--write"]:
    NOTEBOOK.write_text(json.dumps(run(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
