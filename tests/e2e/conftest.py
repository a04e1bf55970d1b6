"""Whole deployments: Airflow with many workers, each a host of its own."""
