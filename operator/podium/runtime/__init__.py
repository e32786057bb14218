"""The shell: watches, queue, cache, reconciler, metrics, health, settings."""
