# The operator's image. Dependencies are those of requirements/operator.lock, by hash.
ARG BASE=docker.io/library/python:3.11-slim-bookworm

FROM ${BASE} AS build
RUN python3 -m venv /opt/podium
COPY requirements/operator.lock /src/requirements/operator.lock
RUN /opt/podium/bin/pip install --no-cache-dir --require-hashes --only-binary :all: \
      -r /src/requirements/operator.lock
COPY pyproject.toml README.md LICENSE /src/
COPY operator /src/operator
RUN /opt/podium/bin/pip install --no-cache-dir --no-deps /src \
 && /opt/podium/bin/pip uninstall --yes --quiet setuptools pip

FROM ${BASE}
LABEL org.opencontainers.image.title="podium-operator" \
      org.opencontainers.image.description="Keeps Kubernetes serving the right MLflow model." \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/podium /opt/podium
ENV PATH=/opt/podium/bin:/usr/local/bin:/usr/bin:/bin HOME=/tmp PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
ENTRYPOINT ["podium-operator"]
