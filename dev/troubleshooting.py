"""The page *Troubleshooting*: every error message of the package, read from its source."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from airflow_provider_milvusdm import exceptions

PACKAGE = Path(exceptions.__file__).parent
CLASSES = {name: value for name, value in vars(exceptions).items() if inspect.isclass(value) and name[0] != "_"}
HEAD = """# Troubleshooting

Every error of the package says what is wrong, where, what was expected and found, and what to do. This page lists all
of them by kind; `…` stands for a name, a number or a path of your run. Search it for some words of the message in your
task's log. The page is generated from the code.
"""


@dataclass(frozen=True)
class Message:
    error: str
    """Name of its class."""
    what: str
    expected: str
    cure: str

    def to_markdown(self) -> str:
        """One item of a list."""
        details = [f"Expected {self.expected}." if self.expected else "", self.cure]
        return "\n\n    ".join([f"*   **{self.what[0].upper()}{self.what[1:]}**", *filter(None, details)])


def list_messages() -> list[Message]:
    """All messages of the package, each once, by class and text."""
    files = sorted(PACKAGE.rglob("*.py"))
    messages = {message for file in files for message in _messages_of(ast.parse(file.read_text(encoding="utf-8")))}
    return sorted(messages, key=lambda message: (list(CLASSES).index(message.error), message.what, message.cure))


def to_page() -> str:
    """The page as Markdown."""
    messages, sections = list_messages(), [HEAD]
    for name, error in CLASSES.items():
        items = [message.to_markdown() for message in messages if message.error == name]
        if items:
            sections += [f"## {name}", inspect.getdoc(error) or "", "\n".join(items)]
    return "\n\n".join(sections) + "\n"


def _messages_of(tree: ast.Module) -> Iterator[Message]:
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in CLASSES and call.args:
            parts = {keyword.arg: _text(keyword.value) for keyword in call.keywords}
            what, expected, cure = _text(call.args[0]), parts.get("expected", ""), parts.get("cure", "")
            if _says_something(what):
                facts = (_escaped(fact) if _says_something(fact) else "" for fact in (expected, cure))
                yield Message(call.func.id, _escaped(what), *facts)


def _text(node: ast.expr) -> str:
    """The text of an expression, with ``…`` for what a run fills in."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(map(_text, parts))
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _text(left) + _text(right)
        case ast.IfExp(body=body, orelse=other):
            return f"{_text(body)} / {_text(other)}"
        case _:
            return "…"


def _says_something(text: str) -> bool:
    return bool(text.strip(" …"))


def _escaped(text: str) -> str:
    return text.replace("<", "&lt;").replace("*", r"\*").replace("_", r"\_").replace("\n", " ").strip()
