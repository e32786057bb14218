# The operator's image. Dependencies are those of requirements/operator.lock, by hash: a layer that
# is built anew only when the lock changes. Nothing of pip stays in the environment.
ARG BASE=docker.io/library/python:3.11-slim-bookworm

FROM ${BASE} AS dependencies
RUN python3 -m venv --without-pip /opt/podium
COPY requirements/operator.lock /opt/podium/
RUN python3 -m pip --python /opt/podium/bin/python install --no-cache-dir --require-hashes \
      --only-binary :all: -r /opt/podium/operator.lock

FROM dependencies AS package
COPY pyproject.toml README.md LICENSE /src/
COPY operator /src/operator
RUN python3 -m pip --python /opt/podium/bin/python install --no-cache-dir --no-deps \
      --prefix /package /src

FROM dependencies
LABEL org.opencontainers.image.title="podium-operator" \
      org.opencontainers.image.description="Keeps Kubernetes serving the right MLflow model." \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=package /package /opt/podium
ENV PATH=/opt/podium/bin:/usr/local/bin:/usr/bin:/bin HOME=/tmp PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
ENTRYPOINT ["podium-operator"]
