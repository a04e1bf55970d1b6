"""How far a task got, for whoever watches: each record goes to Airflow's log, and to the command line."""

from __future__ import annotations

import logging

progress = logging.getLogger(__name__)
