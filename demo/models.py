"""Trains the four versions of the model `iris` and registers them in MLflow.

Real scikit-learn classifiers on the iris data set that comes with scikit-learn; the accuracy is
measured on 60 flowers that none of them has seen. Says nothing about Kubernetes.
"""

import logging
import os
import warnings
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from io import StringIO

MODEL = "iris"
ALIAS = "champion"
BOUND = "0.90"  # the least accuracy that the promotion's gate lets pass

# An unreachable server must be an error within seconds, and progress bars do not belong in a demo.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
warnings.filterwarnings("ignore", category=FutureWarning)
warnings.filterwarnings("ignore", module="mlflow")

import mlflow  # noqa: E402 - reads the settings above when it is imported
import mlflow.pyfunc  # noqa: E402
import mlflow.sklearn  # noqa: E402
import numpy as np  # noqa: E402
from mlflow import MlflowClient  # noqa: E402
from sklearn.base import ClassifierMixin  # noqa: E402
from sklearn.datasets import load_iris  # noqa: E402
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis  # noqa: E402
from sklearn.linear_model import LogisticRegression  # noqa: E402
from sklearn.model_selection import train_test_split  # noqa: E402
from sklearn.neighbors import NearestCentroid  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import FunctionTransformer  # noqa: E402

from demo.petals import Flowers, with_petal_area  # noqa: E402

logging.getLogger("mlflow").setLevel(logging.ERROR)

Answers = tuple[str, ...]


@dataclass(frozen=True)
class Recipe:
    """How one version is made. A version with `cloudpickle` refers to code by its name only."""

    summary: str
    classifier: ClassifierMixin
    serialization: str = "skops"


RECIPES: dict[str, Recipe] = {
    "1": Recipe("nearest centroid", NearestCentroid()),
    "2": Recipe("logistic regression", LogisticRegression(max_iter=500)),
    "3": Recipe("an overly regularized regression", LogisticRegression(C=0.0005)),
    "4": Recipe(
        "petal area + discriminant analysis",
        make_pipeline(FunctionTransformer(with_petal_area), LinearDiscriminantAnalysis()),
        serialization="cloudpickle",
    ),
}


@dataclass(frozen=True)
class Trained:
    """A registered version, and what its own artifact answers on the probes."""

    version: str
    summary: str
    accuracy: float
    offline: Answers


class Laboratory:
    """Trains and predicts on this machine, and registers in the MLflow it is connected to."""

    client: MlflowClient

    def __init__(self) -> None:
        flowers, kinds = load_iris(return_X_y=True)
        names = np.array(["setosa", "versicolor", "virginica"])[kinds]
        split = train_test_split(flowers, names, test_size=0.4, random_state=42, stratify=names)
        self._train, self._test, self._train_kinds, self._test_kinds = split
        for recipe in RECIPES.values():
            recipe.classifier.fit(self._train, self._train_kinds)
        self.probes = self._tell_apart()

    def connect(self, uri: str) -> None:
        """From now on, the MLflow at `uri` is where versions are registered."""
        mlflow.set_tracking_uri(uri)
        self.client = MlflowClient(uri)

    def train(self, number: str) -> Trained:
        """Log and register version `number`, then ask its own artifact, fetched from MLflow."""
        recipe = RECIPES[number]
        accuracy = float(recipe.classifier.score(self._test, self._test_kinds))
        mlflow.set_experiment(MODEL)
        # MLflow tells of each step on standard error; the timeline says it once.
        with redirect_stderr(StringIO()), mlflow.start_run(run_name=recipe.summary):
            mlflow.log_metric("accuracy", accuracy)
            logged = mlflow.sklearn.log_model(
                recipe.classifier,
                name="model",
                serialization_format=recipe.serialization,
                pip_requirements=["scikit-learn"],
            )
            made = mlflow.register_model(logged.model_uri, MODEL, await_registration_for=60)
        return Trained(str(made.version), recipe.summary, accuracy, self.offline(str(made.version)))

    def offline(self, version: str) -> Answers:
        """What the registered artifact of a version answers, without any server in between."""
        loaded = mlflow.pyfunc.load_model(f"models:/{MODEL}/{version}")
        return tuple(str(kind) for kind in loaded.predict(self.probes))

    def champion(self) -> str | None:
        """The version that MLflow's alias points at; None while there is none."""
        version = self.client.get_registered_model(MODEL).aliases.get(ALIAS)
        return None if version is None else str(version)

    def stages(self) -> dict[str, str]:
        """MLflow's stage of each version."""
        found = self.client.search_model_versions(f'name = "{MODEL}"')
        return {str(v.version): str(v.current_stage) for v in found}

    def tags(self, version: str) -> dict[str, str]:
        """The tags of a version that people read in MLflow's UI."""
        return dict(self.client.get_model_version(MODEL, version).tags)

    def rows(self) -> Sequence[Sequence[float]]:
        """The probes as JSON takes them."""
        return [[float(cell) for cell in row] for row in self.probes]

    def _tell_apart(self) -> Flowers:
        """Unseen flowers on which the versions disagree, and a few on which they agree."""
        answers = [recipe.classifier.predict(self._test) for recipe in RECIPES.values()]
        disagree = [
            place for place in range(len(self._test)) if len({a[place] for a in answers[:2]}) > 1
        ]
        agree = [place for place in range(len(self._test)) if place not in disagree]
        others = [place for place in agree if answers[1][place] != answers[3][place]]
        chosen: Flowers = self._test[[*disagree[:6], *others[:2], *agree[:4]]]
        return chosen
