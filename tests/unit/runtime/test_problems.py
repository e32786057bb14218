"""What an error of the registry means to a promotion."""

from podium.api.reasons import Reason
from podium.cluster.errors import Forbidden
from podium.engine.observation import ProblemKind
from podium.registry.errors import CredentialsUnavailable
from podium.runtime import problems


def test_a_secret_that_is_absent_is_waited_for() -> None:
    found = problems.of_registry(CredentialsUnavailable("Secret a/b does not exist"))
    assert (found.kind, found.reason) == (ProblemKind.WAITING, Reason.SECRET_NOT_FOUND)


def test_a_secret_that_rbac_keeps_back_is_forbidden() -> None:
    error = CredentialsUnavailable("Secret a/b could not be read: no")
    error.__cause__ = Forbidden("no")
    found = problems.of_registry(error)
    assert (found.kind, found.reason) == (ProblemKind.STALLED, Reason.FORBIDDEN)
    assert "Secret a/b" in found.message
