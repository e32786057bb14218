"""Podium keeps Kubernetes serving the right MLflow model."""

__version__ = "0.1.0"
