"""The examples of the README and of the pages in docs run as they stand, in order, each page in an empty folder.

Each block of the README stands alone; those of another page go on where the one before has ended.
A block that cannot run here says why in a comment just before it: `<!-- not run: needs a scanner -->`.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = sorted((ROOT / "docs").glob("*.md"))

BLOCK = re.compile(
    r"(?:^<!-- not run: (?P<reason>.+?) -->\n\n?)?^```(?P<language>python|bash)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


def blocks(text: str) -> list[object]:
    """Code blocks that are run, in the order of the page, as test parameters named by their first line."""
    found = []
    for match in BLOCK.finditer(text):
        language, code, reason = match["language"], match["code"], match["reason"]
        if language == "bash" and not code.startswith("raymend "):
            continue
        line = text.count("\n", 0, match.start("code")) + 1
        marks = [pytest.mark.skip(reason=reason)] if reason else []
        found.append(pytest.param(language, code, line, id=f"{language}-line-{line}", marks=marks))
    return found


def commands(code: str) -> list[list[str]]:
    lines = code.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


TEXT = README.read_text(encoding="utf-8") if README.exists() else ""
BLOCKS = blocks(TEXT)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("readme")


@pytest.fixture(scope="module")
def names() -> dict[Path, dict[str, object]]:
    """What the blocks of a page have defined so far."""
    return {page: {"__name__": "__main__"} for page in PAGES}


FURTHER = [
    pytest.param(page, *block.values[1:], id=f"{page.stem}-{block.id}", marks=block.marks)
    for page in PAGES
    for block in blocks(page.read_text(encoding="utf-8"))
]


@pytest.mark.filterwarnings("ignore::UserWarning:torch")
@pytest.mark.parametrize(("page", "code", "line"), FURTHER)
def test_block_of_a_page_runs(page: Path, code: str, line: int, names: dict[Path, dict[str, object]]) -> None:
    exec(compile("\n" * (line - 1) + code, str(page), "exec"), names[page])


def test_readme_shows_python_and_the_command() -> None:
    assert {block.values[0] for block in BLOCKS} == {"python", "bash"}


@pytest.mark.parametrize(("language", "code", "line"), BLOCKS)
def test_block_runs(language: str, code: str, line: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    if language == "bash":
        run_commands(code, line, folder)
    else:  # the empty lines make a traceback point into the README
        exec(compile("\n" * (line - 1) + code, str(README), "exec"), {"__name__": "__main__"})


def run_commands(code: str, line: int, folder: Path) -> None:
    for program, *arguments in commands(code):
        assert program == "raymend", f"README.md line {line}: mix no other commands into a raymend block"
        done = subprocess.run(
            [sys.executable, "-m", "raymend", *arguments],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, f"raymend {shlex.join(arguments)}\n{done.stdout}\n{done.stderr}"


def test_blocks_are_found_and_marked() -> None:
    marked = "<!-- not run: real data -->\n```python\na\n```\n"
    text = marked + "\n```bash\npip install x\n```\n\n```bash\nraymend \\\n  x  # why\n```\n"
    python, bash = blocks(text)
    assert python.values == ("python", "a\n", 3)
    assert [mark.kwargs["reason"] for mark in python.marks] == ["real data"]
    assert not bash.marks
    assert commands(bash.values[1]) == [["raymend", "x"]]
