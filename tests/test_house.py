"""The rules of the house, enforced: arrows run one way, files are short, public things are documented."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / "vidssl").rglob("*.py"))
TOOLS = sorted((ROOT / "tools").glob("*.py"))
BASE = {"types", "spec", "house", "files", "pieces", "__init__"}
MAY = {  # a room may import these rooms, itself and the ground floor
    "nets": set(),
    "data": {"nets"},
    "latents": {"nets"},
    "energy": {"nets", "latents"},
    "objectives": {"nets", "latents", "energy", "data"},
    "evaluation": {"nets", "latents", "energy", "data", "render", "export"},
    "export": {"nets", "latents", "energy"},
    "render": {"data"},
    "training": {"nets", "latents", "energy", "objectives", "data", "render"},
    "sweep": {"nets", "latents", "energy", "objectives", "data", "evaluation", "export", "training", "render"},
    "cli": set(),
    "progress": set(),
    "bench": {"nets", "latents", "energy", "objectives", "data", "evaluation", "training"},
}
VIDEO_LIBRARIES = {"av", "decord", "torchcodec"}


def imported(path: Path) -> Iterator[str]:
    """Full names of the modules that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def room(path: Path) -> str:
    parts = path.relative_to(ROOT / "vidssl").with_suffix("").parts
    return parts[0]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_arrows_run_one_way(path: Path) -> None:
    here = room(path)
    if here == "__init__":
        return
    allowed = BASE if here in BASE else BASE | {here} | MAY[here]
    for name in imported(path):
        if name.startswith("vidssl."):
            assert name.split(".")[1] in allowed, f"{here} may not import {name}"
        top = name.split(".")[0]
        if top in ("lightning", "pytorch_lightning", "jsonargparse"):
            assert here in ("training", "data"), f"{here} may not import {name}: models are used without Lightning"
        if top in VIDEO_LIBRARIES:
            assert here == "data" and path.stem in {"decode", "encode", "_pyav", "_square", "_decord", "_torchcodec"}, f"{path.name} may not name {top}"
        if top == "ale_py":
            assert here == "data" and path.stem == "atari", f"{path.name} may not name ale_py"
        assert top != "tools", "nothing imports a tool but the command"


@pytest.mark.parametrize("path", FILES + TOOLS, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_are_short_and_documented(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= 300, f"{path.name} is over 300 lines: is it one idea?"
    tree = ast.parse(text)
    assert ast.get_docstring(tree), f"{path.name} has no docstring"

    def check(body: list[ast.stmt], owner: str) -> None:
        for node in body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
                assert ast.get_docstring(node), f"{owner}{node.name} has no docstring"
                if isinstance(node, ast.FunctionDef):
                    assert node.returns is not None, f"{owner}{node.name} has no return annotation"
                else:
                    check(node.body, f"{node.name}.")

    check(tree.body, f"{path.name}: ")


def test_no_forbidden_rooms() -> None:
    assert not (ROOT / "datasets" / "__init__.py").exists(), "a package of that name would hide a well-known one"
    assert not list((ROOT / "configs").rglob("*.py"))


def test_importing_the_package_is_quick() -> None:
    code = "import sys, vidssl; assert vidssl.__version__; heavy = {'torch', 'lightning', 'numpy'} & set(sys.modules); assert not heavy, heavy"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_the_command_lists_every_tool() -> None:
    done = subprocess.run([sys.executable, "-m", "vidssl.cli", "--help"], check=True, cwd=ROOT, capture_output=True, text=True)
    assert TOOLS, "there are no tools"
    for tool in TOOLS:
        assert f"  {tool.stem} " in done.stdout


def test_an_unknown_verb_is_one_line_and_status_2() -> None:
    done = subprocess.run([sys.executable, "-m", "vidssl.cli", "frobnicate"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "frobnicate" in done.stderr
