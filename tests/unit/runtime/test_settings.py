"""Flags and variables: what is taken, and what is refused with a sentence."""

import pytest

from podium.runtime.settings import parse


def test_flags_stand_before_variables() -> None:
    settings = parse(
        ["--all-namespaces", "--workers", "3"],
        {"POD_NAMESPACE": "podium", "PODIUM_WORKERS": "9", "PODIUM_MAX_ROLLOUTS": "0"},
    )
    assert settings.namespaces == ()
    assert (settings.workers, settings.max_rollouts) == (3, 0)
    assert settings.lease_namespace == "podium"


def test_variables_alone_suffice() -> None:
    settings = parse([], {"PODIUM_NAMESPACE": "a,b", "PODIUM_LEASE_NAMESPACE": "podium"})
    assert settings.namespaces == ("a", "b")


@pytest.mark.parametrize(
    ("arguments", "environment", "words"),
    [
        ([], {}, "--all-namespaces or --namespace"),
        (["--all-namespaces", "--namespace", "a"], {}, "--all-namespaces or --namespace"),
        (["--all-namespaces"], {}, "--lease-namespace is needed"),
        (["--namespace", "A_b"], {}, "not the name of a namespace"),
        (["--namespace", "a", "--workers", "0"], {}, "must be above 0"),
        (["--namespace", "a"], {"PODIUM_WORKERS": "none"}, "invalid _positive value"),
        (["--namespace", "a", "--metrics-port", "99999"], {}, "no port"),
    ],
)
def test_refused(
    arguments: list[str],
    environment: dict[str, str],
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        parse(arguments, environment)
    assert words in capsys.readouterr().err


MLFLOW = {
    "MLFLOW_TRACKING_URI": "http://mlflow:5000",
    "MLFLOW_TRACKING_USERNAME": "ann",
    "MLFLOW_TRACKING_PASSWORD": "hunter2",
}


def test_the_operators_own_server_only_with_one_namespace() -> None:
    one = parse(["--namespace", "a"], MLFLOW).default_registry
    assert one is not None
    assert one.tracking_uri == "http://mlflow:5000"
    assert one.credentials is not None
    assert "hunter2" not in repr(one)
    two = ["--namespace", "a", "--namespace", "b", "--lease-namespace", "a"]
    assert parse(two, MLFLOW).default_registry is None
    every = ["--all-namespaces", "--lease-namespace", "a"]
    assert parse(every, MLFLOW).default_registry is None
