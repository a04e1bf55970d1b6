# Airflow with the provider and its DAGs, for docker-compose.yaml.

FROM apache/airflow:3.3.2-python3.11

USER root
RUN install --directory --owner=airflow --group=root --mode=0775 /milvus1x /opt/airflow/auth
USER airflow

# What the image has stays as it is: its constraints are those of Airflow's release. What they don't name comes in the lock's
# versions.
COPY --chown=airflow:root . /tmp/project
RUN sed -nE 's/^((faiss-cpu|h5py|milvus-lite|pymilvus)==[^ ]+).*/\1/p' /tmp/project/requirements.lock > /tmp/constraints.txt \
    && pip install --no-cache-dir --constraint "${HOME}/constraints.txt" --constraint /tmp/constraints.txt \
        "apache-airflow==${AIRFLOW_VERSION}" "/tmp/project[lite,mysql,s3]" \
    && milvusdm dags /opt/airflow/dags \
    && rm -r /tmp/project /tmp/constraints.txt
