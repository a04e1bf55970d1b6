"""Airflow operators: they hold arguments and pass manifests."""
