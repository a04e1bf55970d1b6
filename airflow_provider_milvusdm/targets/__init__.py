"""Targets: rows go in, and are verified. Nothing here knows Airflow."""
