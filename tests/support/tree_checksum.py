"""One checksum of a whole folder, to prove that a migration left its source as it was."""

from __future__ import annotations

import hashlib
from pathlib import Path


def tree_checksum(path: Path) -> str:
    """SHA-256 of the relative names, kinds and bytes of all that stands below `path`."""
    digest = hashlib.sha256()
    for entry in sorted(Path(path).rglob("*")):
        kind = "folder" if entry.is_dir() else "file"
        digest.update(f"{kind} {entry.relative_to(path)}\0".encode())
        if entry.is_file():
            digest.update(hashlib.sha256(entry.read_bytes()).digest())
    return digest.hexdigest()
