"""The Kubernetes client: typed reads, server-side apply, status, events, leases."""
