"""The `vidssl` command: finds the tool that a verb names and turns a user's mistake into one line.

Each verb is a file in `tools/` with a function ``main(argv) -> None``; its docstring's first line is
what ``vidssl --help`` prints. Exit status: 0 done, 2 the user's mistake, 1 ours.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # read once, when torch is imported: its own notes are about what is meant to be so

from vidssl.house import room
from vidssl.types import UserError


def verbs() -> dict[str, Path]:
    """The verbs and their files."""
    return {path.stem: path for path in sorted(room("tools").glob("*.py")) if not path.stem.startswith("_")}


def usage() -> str:
    """The text of ``vidssl --help``; tools are read, not run, so it is quick."""
    lines = ["usage: vidssl VERB [options]   (vidssl VERB --help explains each)", ""]
    for verb, path in verbs().items():
        doc = ast.get_docstring(ast.parse(path.read_text())) or ""
        lines.append(f"  {verb:<10} {doc.splitlines()[0]}")
    return "\n".join([*lines, "", "  --traceback  show where an error came from"])


def load_tool(verb: str) -> ModuleType:
    """Import the file of a verb."""
    spec = importlib.util.spec_from_file_location(f"vidssl_tool_{verb}", verbs()[verb])
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def main(argv: list[str] | None = None) -> int:
    """Run ``vidssl VERB ...`` and return the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    traceback = "--traceback" in arguments
    arguments = [a for a in arguments if a != "--traceback"]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return 0
    if arguments[0] == "--version":
        from vidssl import __version__

        print(f"vidssl {__version__}")
        return 0
    try:
        if arguments[0] not in verbs():
            raise UserError(f"a verb is one of {', '.join(verbs())}; got {arguments[0]!r}")
        load_tool(arguments[0]).main(arguments[1:])
        return 0
    except KeyboardInterrupt:
        print("vidssl: interrupted", file=sys.stderr)
        return 130
    except (UserError, OSError) as error:
        if traceback:
            raise
        print(f"vidssl: {' '.join(str(error).split())}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
