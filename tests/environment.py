"""What a process that a test starts is given."""

import os
from pathlib import Path

OPERATOR = Path(__file__).parents[1] / "operator"


def of_operator(**more: str) -> dict[str, str]:
    """Without the MLFLOW_TRACKING_URI that another test, or who runs them, may have set: it would
    stand in for a ModelRegistry named `default`."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")}
    return {**inherited, "PYTHONPATH": str(OPERATOR), **more}
