"""Files that are whole or not there: every writer of this package goes through here.

A file is written beside its final place, flushed to the disk and then renamed over it. Whatever
goes wrong on the way (no room, a signal, a mistake), what was there before is still there, whole.
Only a killed process leaves its draft behind: a hidden file, which readers of folders pass over.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

CHUNK_BYTES = 1 << 20


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a draft's path in the folder of `path`; on a clean exit it becomes `path`, else it is removed.

    The folder is made if need be. The draft's name ends like `path`, so that writers that choose a
    format by suffix choose the right one. The block must have closed the file when it ends.

    Raises:
        OSError: no room, no permission; it names `path`, which is then as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.parent / f".{path.stem[:40]}-{secrets.token_hex(4)}{path.suffix}"
    try:
        yield draft
        sync(draft)
        os.replace(draft, path)
    except BaseException as error:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename in (None, str(draft)):
            error.filename = str(path)  # a full disk does not say whose write it was; the user knows no draft
        raise
    with suppress(OSError):  # some file systems cannot flush a folder; the file itself is safe already
        sync(path.parent)


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write `data` to `path`, atomically."""
    with atomic(path) as draft:
        draft.write_bytes(data)


def write_text(path: str | Path, text: str) -> None:
    """Write `text` to `path` as UTF-8, atomically."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` to `path` as indented JSON, atomically. Names of files that are no text stay what they are when it is read.

    Raises:
        ValueError: NaN or infinity, which JSON does not have; `path` is then as it was.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_bytes(path, text.encode("utf-8", "backslashreplace"))  # half a surrogate, which is how Python keeps such a byte, becomes JSON's escape


def sha256_of(path: str | Path) -> str:
    """The sha256 of a file's bytes, in hexadecimal, read piece by piece."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(CHUNK_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def zip_harm(path: str | Path) -> str:
    """What is wrong with a file that torch wrote, by the checksums within it, which torch itself does not compare; '' for nothing.

    What torch writes is neither compressed nor larger than its file: a few bytes could unfold to terabytes otherwise.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
                return "it is compressed, and torch compresses nothing"
            if sum(entry.file_size for entry in entries) > Path(path).stat().st_size:
                return "it says that more is in it than it has bytes"
            damaged = archive.testzip()
    except (zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, struct.error, NotImplementedError, EOFError, ValueError, OSError, RuntimeError, OverflowError) as error:
        return str(error) or type(error).__name__
    return "" if damaged is None else f"it is damaged at {damaged!r}"


def sync(path: Path) -> None:
    """Flush a file or a folder to the disk, so that a crash of the machine cannot undo it."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
