"""A real Kubernetes on one machine, for tests and the demo, without Docker.

Not part of the operator: nothing under `operator/` imports this package.
"""
