"""The notebooks run small, and keep to their form: scripts in cells, one size, imports instead of definitions."""

import ast
import re
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.py"))
SMALL = 80

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])


def cells(text: str) -> list[str]:
    """Return the code cells of a script in jupytext's percent format."""
    parts = re.split(r"^# %%", text, flags=re.MULTILINE)
    return [part.split("\n", 1)[1].strip() for part in parts[1:] if not part.startswith(" [markdown]")]


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS
    assert cells("# %% [markdown]\n# x\n\n# %%\na = 1\n\n# %%\nb\n") == ["a = 1", "b"]


@every_notebook
def test_form(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    code = cells(text)
    assert text.startswith("# %% [markdown]\n# # ")
    assert re.fullmatch(r"SIZE = \d+  # .+", code[0])
    assert "assert " in code[-1]
    defined = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
    assert not [node for node in ast.walk(ast.parse(text)) if isinstance(node, defined)]


@every_notebook
def test_runs_small(path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.chdir(tmp_path)
    text, changed = re.subn(r"^SIZE = \d+", f"SIZE = {SMALL}", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert changed == 1
    try:
        exec(compile(text, str(path), "exec"), {"__name__": "__main__"})
    finally:
        import matplotlib.pyplot as plt

        plt.close("all")
