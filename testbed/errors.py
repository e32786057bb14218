"""The one exception that a person using the test bed is meant to read."""


class TestbedError(Exception):
    """Says what failed, on which object, and what to do next."""

    __test__ = False  # its name would otherwise make pytest collect it
