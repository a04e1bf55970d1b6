"""Loads Airflow before it is needed: its imports and its API take three quarters of the time of a short run.

The server of `warm_python` imports this module. In a process that it forks, Airflow seems not to be imported yet: the
first import of it configures it from the environment of that moment, as in a new interpreter. A few settings stay at
their defaults because classes copy them, `core.parallelism` and `core.dags_are_paused_at_creation` for example: what
sets those starts a new interpreter.
"""

from __future__ import annotations

import gc
import os
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from types import ModuleType

PRELOADED = (
    "airflow.cli.commands.dag_command",
    "airflow.dag_processing.collection",
    "airflow.models.renderedtifields",
    "airflow.models.trigger",
    "airflow.providers.standard.operators.python",
    "airflow.sdk.execution_time.task_runner",
    "airflow.utils.db",
)
"""What runs import, apart from the API."""
FORGOTTEN = ("airflow.cli.cli_config", "airflow.config_templates.airflow_local_settings")
"""Modules that compute constants from settings when they are imported."""
CONSTANTS = ("AIRFLOW_HOME", "DAGS_FOLDER", "SQL_ALCHEMY_CONN")
"""Settings that modules other than `airflow.settings` hold copies of."""


def _is_airflow(module: str) -> bool:
    return module == "airflow" or module.startswith("airflow.")


def _preload() -> None:
    for name in [name for name in os.environ if name.startswith("AIRFLOW__")]:
        del os.environ[name]
    for name in PRELOADED:
        import_module(name)
    from airflow.sdk.execution_time.supervisor import in_process_api_server
    from sqlalchemy.orm import configure_mappers

    configure_mappers()
    in_process_api_server().app._cadwyn_initialize()


def _configure() -> None:
    """Read the configuration again, into the same objects: other modules refer to them."""
    from airflow import configuration, settings
    from airflow.sdk import configuration as sdk_configuration

    configuration.AIRFLOW_HOME = settings.AIRFLOW_HOME = configuration.get_airflow_home()
    configuration.AIRFLOW_CONFIG = configuration.get_airflow_config(configuration.AIRFLOW_HOME)
    for module in (configuration, sdk_configuration):
        new = vars(module.initialize_config())
        vars(module.conf).clear()
        vars(module.conf).update(new)
    configuration.secrets_backend_list[:] = configuration.initialize_secrets_backends()
    configuration.conf.validate()
    settings.initialize()


class _Preloaded(MetaPathFinder, Loader):
    """Hides the modules of Airflow until something imports it."""

    def __init__(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _preload()
        for name in FORGOTTEN:
            parent, _, child = name.rpartition(".")
            vars(sys.modules[parent]).pop(child, None)
            sys.modules.pop(name, None)
        self.modules = {name: sys.modules.pop(name) for name in list(sys.modules) if _is_airflow(name)}
        sys.meta_path.insert(0, self)

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        return spec_from_loader(name, self) if name == "airflow" else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        self.spec = self.modules["airflow"].__spec__
        return self.modules["airflow"]

    def exec_module(self, module: ModuleType) -> None:
        sys.meta_path.remove(self)
        module.__spec__ = self.spec
        sys.modules.update(self.modules)
        _configure()
        settings = vars(sys.modules["airflow.settings"])
        for names in map(vars, self.modules.values()):
            names.update((name, settings[name]) for name in CONSTANTS if name in names)


_Preloaded()
gc.freeze()
