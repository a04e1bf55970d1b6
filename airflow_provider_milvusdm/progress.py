"""The logger for the progress of a task: its records go to Airflow's log, and to the terminal of the command line."""

from __future__ import annotations

import logging

progress = logging.getLogger(__name__)
