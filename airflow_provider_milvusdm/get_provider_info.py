"""What this package tells Airflow's providers manager about itself."""

from __future__ import annotations

from typing import Any


def get_provider_info() -> dict[str, Any]:
    """Provider info, by Airflow's ``provider_info.schema.json``."""
    return {
        "package-name": "airflow-provider-milvusdm",
        "name": "MilvusDM",
        "description": "Migrate Milvus 1.x to Milvus 2.x: exact, resumable, verified.",
        "integrations": [
            {"integration-name": "Milvus", "external-doc-url": "https://milvus.io/", "tags": ["software"]}
        ],
        "hooks": [
            {"integration-name": "Milvus", "python-modules": ["airflow_provider_milvusdm.hooks.milvus"]},
        ],
        "operators": [
            {
                "integration-name": "Milvus",
                "python-modules": [
                    "airflow_provider_milvusdm.operators.group",
                    "airflow_provider_milvusdm.operators.target",
                    "airflow_provider_milvusdm.operators.milvus1x",
                    "airflow_provider_milvusdm.operators.inspect_files",
                    "airflow_provider_milvusdm.operators.hdf5",
                    "airflow_provider_milvusdm.operators.faiss",
                    "airflow_provider_milvusdm.operators.resolve",
                    "airflow_provider_milvusdm.operators.plan",
                    "airflow_provider_milvusdm.operators.milvus",
                    "airflow_provider_milvusdm.operators.verify",
                    "airflow_provider_milvusdm.operators.approval",
                    "airflow_provider_milvusdm.operators.assets",
                    "airflow_provider_milvusdm.operators.report",
                ],
            },
        ],
        "triggers": [
            {"integration-name": "Milvus", "python-modules": ["airflow_provider_milvusdm.triggers.milvus"]},
        ],
        "asset-uris": [
            {
                "schemes": ["milvus"],
                "handler": "airflow_provider_milvusdm.assets.sanitize_uri",
                "factory": "airflow_provider_milvusdm.assets.create_asset",
                "to_openlineage_converter": "airflow_provider_milvusdm.assets.convert_asset_to_openlineage",
            }
        ],
        "config": {
            "milvusdm": {
                "description": "Migrations to Milvus 2.x.",
                "options": {
                    "config_dir": {
                        "description": "Folder of MilvusDM's YAML files, each of which becomes a DAG. The environment "
                        "variable MILVUSDM_CONFIG_DIR overrides it.",
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "/opt/airflow/migrations",
                        "default": "",
                    },
                    "deferrable": {
                        "description": "Whether load tasks free their worker and wait in a triggerer while the target "
                        "imports files. False is for an Airflow without a triggerer.",
                        "version_added": "0.1.0",
                        "type": "boolean",
                        "example": None,
                        "default": "True",
                    },
                },
            }
        },
        "connection-types": [
            {
                "connection-type": "milvus",
                "hook-class-name": "airflow_provider_milvusdm.hooks.milvus.MilvusHook",
                "hook-name": "Milvus",
                "ui-field-behaviour": {
                    "hidden-fields": [],
                    "relabeling": {"schema": "Database", "login": "User"},
                    "placeholders": {"host": "localhost", "port": "19530", "schema": "default", "login": "root"},
                },
                "conn-fields": _connection_fields(),
            }
        ],
    }


def _connection_fields() -> dict[str, Any]:
    text = {"type": ["string", "null"]}
    return {
        "uri": {
            "label": "URI",
            "description": "Replaces host and port: http(s)://host:port, or the path of a Milvus Lite file",
            "schema": text,
        },
        "token": {
            "label": "Token",
            "description": "An API key; replaces user and password",
            "schema": text | {"format": "password"},
        },
        "allowed_hosts": {
            "label": "Other hosts for this login",
            "description": "Names of hosts, separated by commas: a run's dest_host or dest_uri may be one of them, or "
            "the connection's own host",
            "schema": text,
        },
        "secure": {"label": "TLS", "schema": {"type": ["boolean", "null"], "default": False}},
        "import_url": {
            "label": "Import URL",
            "description": "Where the server reads the files of bulk imports: s3://conn_id@bucket/folder in its "
            "object store, or file:///folder on its disk",
            "schema": text,
        },
        "server_name": {"label": "TLS server name", "schema": text},
        "ca_pem_path": {"label": "TLS certificate authority (PEM file)", "schema": text},
        "server_pem_path": {"label": "TLS server certificate (PEM file)", "schema": text},
        "client_pem_path": {"label": "TLS client certificate (PEM file)", "schema": text},
        "client_key_path": {"label": "TLS client key (PEM file)", "schema": text},
    }
