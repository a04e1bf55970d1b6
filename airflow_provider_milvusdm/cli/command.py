"""The command ``milvusdm``: as MilvusDM's, it runs YAML files; each job is a run of a DAG template."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import traceback
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import argcomplete
from rich.text import Text

from airflow_provider_milvusdm import __version__
from airflow_provider_milvusdm.cli.plain import to_text
from airflow_provider_milvusdm.exceptions import ConfigurationError, MilvusdmError

if TYPE_CHECKING:
    from rich.console import Console

    from airflow_provider_milvusdm.config.yaml_file import Job
    from airflow_provider_milvusdm.report import Report

OK, FAILED, UNUSABLE, INTERRUPTED = 0, 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code, which is 0 only if every collection was verified or skipped."""
    _open_closed_outputs()
    parser = _parser()
    argcomplete.autocomplete(parser)  # a shell that completes the command's arguments runs it
    options = parser.parse_args(arguments)
    try:
        return int(options.run(options))
    except (MilvusdmError, OSError) as error:
        print(to_text(f"milvusdm: {error}").plain, file=sys.stderr)
        return UNUSABLE
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return INTERRUPTED


def _open_closed_outputs() -> None:
    """Let what is printed go nowhere if standard output, or standard error, was closed before the start."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)
            setattr(sys, name, os.fdopen(number, "w", closefd=False))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("milvusdm", description="Migrate Milvus 1.x to Milvus 2.x.")
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument("--yaml", type=Path, metavar="FILE", help="run the jobs of a MilvusDM YAML file")
    parser.add_argument("--log", type=Path, metavar="FILE", help="the file for Airflow's log (default: a new one)")
    parser.add_argument("--yes", action="store_true", help="approve the plan of each job with approval: true")
    parser.set_defaults(run=_run_yaml, parser=parser, change=lambda job: job)
    commands = parser.add_subparsers(title="commands")
    validate = commands.add_parser("validate", help="report what the jobs would do, and change nothing in the target")
    validate.add_argument("--yaml", type=Path, metavar="FILE", required=True)
    validate.add_argument("--log", type=Path, metavar="FILE")
    validate.set_defaults(change=lambda job: job.as_dry_run())
    abandon = commands.add_parser("abandon", help="undo what an interrupted run of the jobs left in the target")
    abandon.add_argument("--yaml", type=Path, metavar="FILE", required=True)
    abandon.add_argument("--log", type=Path, metavar="FILE")
    abandon.add_argument("--yes", action="store_true", help="approve the plan of each job with approval: true")
    abandon.set_defaults(change=lambda job: job.as_abandoned())
    sample = commands.add_parser("sample", help="write a small Milvus 1.x data directory, to try a migration")
    sample.add_argument("folder", type=Path, metavar="DIR")
    sample.set_defaults(run=_write_sample)
    inspect = commands.add_parser("inspect", help="list what a Milvus 1.x directory, HDF5 file or Faiss index holds")
    inspect.add_argument("path", metavar="PATH", help="a path, or a URL such as s3://bucket/path")
    inspect.add_argument("--json", action="store_true", help="print JSON instead of a table")
    inspect.add_argument(
        "--embeddings", default="embeddings", metavar="NAME", help="the dataset of the vectors in HDF5 files"
    )
    inspect.set_defaults(run=_inspect)
    dags = commands.add_parser("dags", help="copy the DAG templates to a folder")
    dags.add_argument("folder", type=Path, metavar="DIR")
    dags.set_defaults(run=_copy_dags)
    return parser


def _write_sample(options: argparse.Namespace) -> int:
    from airflow_provider_milvusdm.cli.sample import write_sample

    write_sample(options.folder)
    print(f"Wrote a Milvus 1.x data directory with collections articles and products: {options.folder}")
    return OK


def _inspect(options: argparse.Namespace) -> int:
    from airflow_provider_milvusdm.cli.inspect import inspect

    return OK if inspect(options.path, options.embeddings, as_json=options.json) else FAILED


def _copy_dags(options: argparse.Namespace) -> int:
    from airflow_provider_milvusdm.cli.local_run import templates

    if options.folder.exists() and not options.folder.is_dir():
        raise ConfigurationError("not a folder", where=options.folder, cure="Choose another folder.")
    options.folder.mkdir(parents=True, exist_ok=True)
    copies = {template: options.folder / template.name for template in sorted(templates().glob("*.py"))}
    for template, target in copies.items():
        if target.exists() and target.read_bytes() != template.read_bytes():
            raise ConfigurationError(
                "a different DAG file of this name exists", where=target, cure="Move it away, or choose another folder."
            )
    for template, target in copies.items():
        shutil.copyfile(template, target)
        print(target)
    return OK


def _run_yaml(options: argparse.Namespace) -> int:
    from airflow_provider_milvusdm.cli.terminal import redirect_output
    from airflow_provider_milvusdm.config.yaml_file import read_yaml

    if options.yaml is None:
        options.parser.error("--yaml FILE or a command is required")
    jobs = [options.change(job) for job in read_yaml(options.yaml)]
    _refuse_unanswered(jobs, options.yes)
    log = options.log or _new_log()
    console = redirect_output(log)
    console.print(Text(f"Airflow's log: {log}"))
    try:
        return _run(jobs, console, is_approved=options.yes)
    except KeyboardInterrupt:
        console.print("Interrupted. Run the command again to continue.")
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the terminal shows any error in one line
        traceback.print_exc()
        console.print(to_text(f"milvusdm: {type(error).__name__}: {error}. See the log for details."))
        return FAILED


def _new_log() -> Path:
    return Path(tempfile.mkdtemp(prefix=f"milvusdm-{datetime.now():%Y%m%d-%H%M%S}-")) / "airflow.log"


def _refuse_unanswered(jobs: Sequence[Job], is_approved: bool) -> None:
    """Refuse to start a job that asks for approval where nobody can answer."""
    asks = any(job.params.get("approval") and not job.params.get("dry_run") for job in jobs)
    can_answer = sys.stdin is not None and sys.stdin.isatty()  # None if it was closed before the start
    if asks and not is_approved and not can_answer:
        raise ConfigurationError(
            "approval: true asks for approval, and there is no terminal to ask on",
            cure="Run the command in a terminal, or approve the plan with --yes. milvusdm validate shows it.",
        )


def _run(jobs: Sequence[Job], console: Console, *, is_approved: bool) -> int:
    from airflow_provider_milvusdm.cli.local_run import private_airflow, run_job
    from airflow_provider_milvusdm.cli.terminal import Display

    display = Display(console, is_approved=is_approved)
    with private_airflow(jobs), display.shown():
        from airflow_provider_milvusdm.operators.approval import answer_with

        answer_with(display.ask)
        reports = [run_job(job) for job in jobs]
    succeeded = [_show(job, report, console) for job, report in zip(jobs, reports, strict=True)]
    return OK if all(succeeded) else FAILED


def _show(job: Job, report: Report | None, console: Console) -> bool:
    """Print the report of a job; returns whether no collection failed."""
    from airflow_provider_milvusdm.report import render

    if report is None:
        console.print(f"{job.kind} FAILED and migrated nothing: see above, and the log.")
        return False
    console.print(to_text(render(report)), soft_wrap=True)
    return not report.failed
