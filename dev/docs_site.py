"""Hooks of MkDocs: the site has the pages of the repository's root too, and all links lead to pages of the site."""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from troubleshooting import to_page

ROOT = Path(__file__).parents[1]
ROOT_PAGES = {
    "README.md": "index.md",
    "SECURITY.md": "security.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
"""File in the repository's root → page of the site."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the root, and the list of errors."""
    files.append(File.generated(config, "troubleshooting.md", content=to_page()))
    for name, page in ROOT_PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / name).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Links as they are on the site: no folder `docs/`, pages of the root by their names there, no links to code."""
    markdown = re.sub(r"\[([^]]*)\]\((?:\.\./)?(?:airflow_provider_milvusdm|k8s|tests)/[^)]*\)", r"\1", markdown)
    markdown = re.sub(r"\]\((?:\.\./|docs/)", "](", markdown)
    return re.sub(r"\]\(([A-Z]+\.md)", lambda link: f"]({ROOT_PAGES[link[1]]}", markdown)
