"""Small models of the API server and of MLflow, for thousands of schedules in one process.

Plain code without I/O, clock or randomness of its own. That they behave like the real servers is
shown by tests/integration/contract, which runs against both.
"""
