"""Targets: rows are written to them and verified. Nothing here imports Airflow."""
