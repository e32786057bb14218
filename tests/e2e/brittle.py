"""A good classifier whose server does not survive two odd flowers: one ends it, one hangs it.

MLflow runs this file wherever the model is loaded ("models from code"), so it imports only what
the serving image has.
"""

import os
import signal

import numpy as np
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

PETAL_WIDTH = 3  # column, in cm
ENDS_THE_SERVER = -1.0  # a petal of this width
HANGS_THE_SERVER = -2.0


class Brittle(PythonModel):
    """Tells the kinds of iris apart by the width of their petals alone."""

    # MLflow would take type hints for a schema of the input.
    def predict(self, context, model_input, params=None):
        widths = np.asarray(model_input, dtype=float)[:, PETAL_WIDTH]
        if (widths == ENDS_THE_SERVER).any():
            os._exit(1)
        if (widths == HANGS_THE_SERVER).any():
            os.kill(os.getpid(), signal.SIGSTOP)
        return np.where(widths < 0.8, "setosa", np.where(widths < 1.65, "versicolor", "virginica"))


set_model(Brittle())
