"""The code that README and docs print: its blocks, and the test that runs each of them.

A block with the comment `<!-- needs Docker -->` or `<!-- needs Kubernetes -->` above it is run by none.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from tests.support.repository import ROOT

PAGES = sorted(path for folder in (ROOT, ROOT / "docs") for path in folder.glob("*.md"))
NEEDS = ("Docker", "Kubernetes")

TARGETS = "unit/test_printed.py::test_each_make_target_is_there"
EXECUTED = "unit/test_printed.py::test_each_dag_file_is_one"
EXCERPTS = "unit/test_printed.py::test_each_excerpt_is_in_the_file_it_is_taken_from"
CONNECTIONS = "unit/test_printed.py::test_each_connection_is_one_that_the_hook_takes"
VALIDATED = "unit/test_docs.py::test_each_printed_yaml_is_a_job_or_params_of_one"
RUN_BY = {
    "README": [
        TARGETS,
        "unit/test_printed.py::test_the_commands_after_the_installation",
        EXECUTED,
        "system/test_all_jobs.py::test_a_printed_command_of_airflow_dags_test_migrates",
        "system/test_docs.py::test_the_yaml_of_readme",
    ],
    "CONTRIBUTING": [TARGETS, EXCERPTS, EXCERPTS, EXCERPTS],
    "architecture": [
        "unit/test_printed.py::test_the_picture_names_what_tasks_pass_on",
        "unit/test_docs.py::test_architecture_prints_the_layers_that_are_guarded",
    ],
    "bulk-import": [
        "system/test_bulk_import.py::test_a_load_task_waits_in_a_triggerer_or_in_its_worker_while_the_server_imports",
        "system/test_bulk_import.py::test_an_import_from_s3_ends_without_a_triggerer_and_its_secret_is_not_told",
    ],
    "connection": [CONNECTIONS, CONNECTIONS, CONNECTIONS],
    "f2m": ["system/test_docs.py::test_faiss_to_a_target"],
    "h2m": ["system/test_docs.py::test_hdf5_to_a_target"],
    "how-it-runs": [
        "unit/test_printed.py::test_the_picture_names_the_tasks_of_the_dag",
        "system/test_own_dags.py::test_tasks_behind_the_group_run_and_leave_the_run_red",
        EXECUTED,
        EXECUTED,
    ],
    "m2h": ["system/test_docs.py::test_milvus_1x_to_a_target_and_to_hdf5"],
    "m2m": [
        "system/test_docs.py::test_milvus_1x_to_a_target_and_to_hdf5",
        "system/test_mysql_catalog.py::test_airflow_reads_it_by_a_connection",
        "system/test_mysql_catalog.py::test_the_command_line_reads_it_by_mysql_parameter",
    ],
    "mappings": [VALIDATED],
    "migration-page": ["system/test_scheduler.py::test_a_report_is_fetched_as_the_page_says"],
    "object-storage": [VALIDATED],
    "performance": ["unit/test_printed.py::test_each_part_that_is_measured_alone_is_there"],
    "terminal-session": ["system/test_docs.py::test_milvus_1x_to_a_target_and_to_hdf5"],
    "yaml-dags": [
        "unit/test_printed.py::test_the_setting_of_the_folder_is_an_option_of_the_package",
        "unit/test_printed.py::test_the_yaml_of_a_team_is_a_scheduled_dag",
    ],
}
"""By page: the test that runs each of its blocks, in their order."""


@dataclass(frozen=True)
class Block:
    language: str
    text: str
    needs: str
    """What no machine of the tests has; empty: nothing."""

    @property
    def commands(self) -> list[list[str]]:
        """The words of each command of a shell block, without comments."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [words for line in lines if (words := shlex.split(line, comments=True))]


def read_blocks(page: str) -> list[Block]:
    """The blocks of a page, by its name without `.md`."""
    [path] = [path for path in PAGES if path.stem == page]
    return list_blocks(path)


def list_blocks(path: Path) -> list[Block]:
    pattern = r"(?:^<!-- needs (\w+) -->\n)?^ *```(\w*)\n(.*?)^ *```$"
    found = re.findall(pattern, path.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [Block(language, text, needs) for needs, language, text in found]


def list_exports(page: str) -> list[tuple[str, str]]:
    """Name and value of each variable that the shell blocks of a page export."""
    commands = [words for block in read_blocks(page) if block.language == "sh" for words in block.commands]
    exports = [words[1].partition("=") for words in commands if words[0] == "export"]
    return [(name, value) for name, _, value in exports]
