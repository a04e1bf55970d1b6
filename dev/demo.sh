#!/usr/bin/env bash
# Writes a small Milvus 1.x directory, migrates it into a Milvus Lite file, and searches that.
set -euo pipefail
venv=${VENV:-.venv}
demo=$PWD/build/demo
rm -rf "$demo"
mkdir -p "$demo"

"$venv/bin/milvusdm" sample "$demo/milvus"
cat >"$demo/M2M.yaml" <<YAML
M2M:
  milvus_version: 1.x
  source_milvus_path: $demo/milvus
  source_collection:
    articles:
    products:
  dest_uri: $demo/milvus_lite.db
  mode: skip
YAML
"$venv/bin/milvusdm" --yaml "$demo/M2M.yaml" --log "$demo/airflow.log"
"$venv/bin/python" dev/demo_search.py "$demo/milvus_lite.db"
echo
echo "To migrate your own directory: copy ${demo#"$PWD/"}/M2M.yaml, change its source, its collections and its target, and run"
echo "$venv/bin/milvusdm --yaml M2M.yaml"
