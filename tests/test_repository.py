"""What holds for the repository as a whole: no code from data, lean imports, short files, one version."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("recon", "phantoms", "restoration", "raymend")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))

UNSAFE_MODULES = {"pickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
UNSAFE_CALLS = {"eval", "exec", "yaml.load", "yaml.unsafe_load", "os.system", "os.popen"}
UNSAFE_ARGUMENTS = {("shell", True), ("allow_pickle", True), ("weights_only", False)}

HEAVY = {"pydantic", "pydicom", "nibabel", "SimpleITK", "zarr", "dask", "flwr", "matplotlib", "skimage"}


def unsafe(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and name of everything that could turn data into code."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        else:
            names = []
        yield from ((node.lineno, name) for name in names if name.split(".")[0] in UNSAFE_MODULES)
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in UNSAFE_CALLS:
                yield node.lineno, called
            for keyword in node.keywords:
                value = keyword.value.value if isinstance(keyword.value, ast.Constant) else None
                if (keyword.arg, value) in UNSAFE_ARGUMENTS:
                    yield node.lineno, f"{keyword.arg}={value}"


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "import joblib.memory",
        "eval(text)",
        "exec(text)",
        "yaml.load(text)",
        "run(command, shell=True)",
        "numpy.load(path, allow_pickle=True)",
        "torch.load(path, weights_only=False)",
    ],
)
def test_scan_notices_unsafe_source(source: str) -> None:
    assert list(unsafe(ast.parse(source)))


def test_scan_leaves_safe_source_alone() -> None:
    assert not list(unsafe(ast.parse("model.eval(); tomllib.load(file); run(command, shell=False)")))


def test_packages_never_turn_data_into_code() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in SOURCES
        for line, name in unsafe(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not found


def imported_by(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_physics_imports_nothing_heavy() -> None:
    assert not imported_by("import recon") & HEAVY


def test_command_line_starts_without_torch() -> None:
    # The torch import alone takes seconds; `raymend --help` has one.
    assert not imported_by("import raymend.__main__") & {"torch", "numba", "scipy", "matplotlib"}


@pytest.mark.parametrize("package", ["recon", "phantoms", "restoration"])
def test_raymend_offers_the_other_packages(package: str) -> None:
    assert package in imported_by(f"import raymend; raymend.{package}.__name__")


def test_files_are_short() -> None:
    def limit(path: Path) -> int:
        return 600 if ROOT / "recon" / "kernels" in path.parents else 400

    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES}
    long = {str(path.relative_to(ROOT)): n for path, n in lengths.items() if n > limit(path)}
    assert not long


def test_packages_are_typed() -> None:
    assert all((ROOT / package / "py.typed").is_file() for package in PACKAGES)


def test_version_is_the_same_everywhere() -> None:
    # A literal, so that a checkout that is not installed knows its version.
    source = (ROOT / "raymend" / "__init__.py").read_text(encoding="utf-8")
    (version,) = re.findall(r'^__version__ = "(\d+\.\d+\.\d+(?:\.dev\d+)?)"$', source, re.MULTILINE)
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.findall(r"^## (.+)$", changelog, re.MULTILINE)[0]
    if ".dev" in version:
        assert newest == f"Unreleased ({version})"
    else:
        assert re.fullmatch(rf"{re.escape(version)} \(\d{{4}}-\d\d-\d\d\)", newest)
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.findall(r"^version: (.+)$", citation, re.MULTILINE) == [version]


def test_no_link_is_tracked() -> None:
    """A link in a checkout can take the place of a folder elsewhere."""
    found = subprocess.run(["git", "ls-files", "-s"], cwd=ROOT, capture_output=True, text=True, check=False)
    if found.returncode:
        pytest.skip("not a git checkout")
    assert not [line for line in found.stdout.splitlines() if line.startswith("120000")]
