"""One checksum of a whole folder, to prove that a migration left its source as it was."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path


def tree_checksum(path: Path) -> str:
    """SHA-256 of the relative names, kinds and bytes of all that stands below `path`."""
    digest = hashlib.sha256()
    for folder, folders, files in os.walk(path):
        folders.sort()  # the order of the walk
        below = os.path.relpath(folder, path)
        for name in folders:
            digest.update(f"folder {below}/{name}\0".encode())
        for name in sorted(files):
            digest.update(f"file {below}/{name}\0".encode())
            digest.update(hashlib.sha256(Path(folder, name).read_bytes()).digest())
    return digest.hexdigest()
