"""The MLflow REST client and the batched poller. Decides nothing."""
