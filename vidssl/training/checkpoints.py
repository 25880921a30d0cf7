"""Checkpoints that are whole or not there.

A checkpoint is written beside its final place, flushed to disk, read back, and only then renamed; its SHA-256 lies beside it.
Lightning's own writer goes through the temporary directory, and where that is another file system a full disk destroys the
previous checkpoint. Loading never runs code from the file.
"""

from __future__ import annotations

import errno
import pickle
import warnings
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO

from vidssl.files import atomic, sha256_of, sync, zip_harm
from vidssl.pieces import in_pieces, read_folder, verify_folder
from vidssl.types import UserError

LAST = "last.ckpt"


def digest_path(path: Path) -> Path:
    """Where the SHA-256 of a checkpoint lies."""
    return path.with_name(path.name + ".sha256")


def verify(path: Path) -> None:
    """Refuse a checkpoint that is not what was written, by its digest or else by the checksums within it.

    Raises:
        UserError: missing, truncated or altered.
    """
    if in_pieces(path):
        verify_folder(path)
        return
    if not path.is_file():
        raise UserError(f"there is no checkpoint {str(path)!r}: give the path of a .ckpt file, or 'last'")
    digest = digest_path(path)
    if digest.is_file():
        if digest.read_text("utf-8", "replace").split()[:1] != [sha256_of(path)]:
            raise UserError(f"the checkpoint {str(path)!r} is not what was written (its SHA-256 differs): use an older one")
        return
    if harm := zip_harm(path):
        raise UserError(f"{str(path)!r} is no whole checkpoint ({harm}): use an older one")


def found(folder: Path) -> list[Path]:
    """The checkpoints below `folder`, the newest first; ``last.ckpt`` is another name of one of them, and comes after it."""
    paths = [p for p in folder.rglob("*.ckpt") if not p.name.startswith(".") and p.exists()]  # a dot begins the name of a draft
    return sorted(paths, key=lambda p: (p.stat().st_mtime_ns, p.name != LAST), reverse=True)


def newest(folder: Path) -> Path:
    """The newest checkpoint below `folder` that verifies.

    Raises:
        UserError: when there is none.
    """
    for path in found(folder):
        try:
            verify(path)
        except UserError:
            continue
        return path
    raise UserError(f"there is no whole checkpoint below {str(folder)!r} to go on from: start without --ckpt_path")


def check_finite(checkpoint: dict[str, Any], path: Path) -> None:
    """Refuse weights that are not finite: such a checkpoint would replace a good one.

    Raises:
        UserError: naming the first of them.
    """
    for name, weight in checkpoint["state_dict"].items():
        if weight.is_floating_point() and not torch.isfinite(weight).all():
            raise UserError(
                f"a checkpoint holds finite weights; {name!r} is not: lower the learning rate or look at the data; "
                f"{str(path)!r} was not written, and the checkpoints before it are whole"
            )


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's way to files, made safe."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write `checkpoint` and its digest. Where that fails, as on a full disk, what was there stays, a warning says so, and the run goes on.

        Raises:
            UserError: weights that are not finite.
        """
        final = Path(path)
        check_finite(checkpoint, final)
        try:
            with atomic(final) as draft:
                torch.save(checkpoint, draft)
                sync(draft)
                if harm := zip_harm(draft):
                    raise OSError(errno.EIO, f"the file is not what was written ({harm})")
                digest = sha256_of(draft)
                # a crash between the two renames leaves a checkpoint without a digest, never one with a false digest
                digest_path(final).unlink(missing_ok=True)
            with atomic(digest_path(final)) as draft:
                draft.write_text(f"{digest}  {final.name}\n")
        except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
            told = " ".join(str(error).split())[:200]
            warnings.warn(f"the checkpoint {str(final)!r} could not be written ({told}); those before it are as they were, and training goes on", stacklevel=2)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = True) -> dict[str, Any]:
        """Read a checkpoint that verifies, tensors and plain values only.

        Raises:
            UserError: missing, truncated, altered, holding more than weights and plain values, or not of vidssl.
        """
        if in_pieces(Path(path)):
            return read_folder(path)  # it verifies what it reads
        verify(Path(path))
        try:
            checkpoint = torch.load(path, map_location=map_location or "cpu", weights_only=True)
        except (RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
            raise UserError(f"{str(path)!r} is no whole checkpoint: {str(error).splitlines()[0][:160]}") from error
        if not isinstance(checkpoint, dict) or "vidssl" not in checkpoint:
            raise UserError(f"a run goes on from a checkpoint that vidssl wrote; {str(path)!r} has no 'vidssl' record")
        return checkpoint

    def remove_checkpoint(self, path: Any) -> None:
        """Delete a checkpoint with its digest."""
        super().remove_checkpoint(path)
        digest_path(Path(path)).unlink(missing_ok=True)
