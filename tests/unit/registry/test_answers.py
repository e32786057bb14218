"""What each kind of answer means, as a table; and that no message gives away a secret."""

import pytest

from podium.registry import answers, requests, wire
from podium.registry.answers import Answer
from podium.registry.connection import checked_address
from podium.registry.errors import (
    AmbiguousWrite,
    Conflict,
    EndpointMissing,
    Forbidden,
    HostNotAllowed,
    InvalidAddress,
    InvalidName,
    InvalidRequest,
    LoggedModelNotFound,
    ModelNotFound,
    NotMlflow,
    RegistryError,
    RegistryUnavailable,
    RunNotFound,
    TooLarge,
    Unauthenticated,
    VersionNotFound,
    WorkspaceUnsupported,
)
from podium.registry.model import Credentials

ADDRESS = "http://mlflow.ml.svc:5000"
READ = requests.get_model("churn")
WRITE = requests.set_alias("churn", "champion", "7")
HTML = b"<!doctype html><title>Sign in</title>"


def answer(status: int, body: bytes, *, location: str | None = None) -> Answer:
    kind = "text/html" if body.startswith(b"<") else "application/json"
    return Answer(status=status, content_type=kind, retry_after=None, location=location, body=body)


def said(code: str, message: str) -> bytes:
    return f'{{"error_code": "{code}", "message": "{message}"}}'.encode()


ABSENT = "RESOURCE_DOES_NOT_EXIST"
TABLE = [
    (READ, 404, said(ABSENT, "Registered Model with name=churn not found"), ModelNotFound),
    (READ, 404, b'{"detail": "Not Found"}', EndpointMissing),
    (READ, 404, HTML, EndpointMissing),
    (READ, 405, HTML, EndpointMissing),
    (WRITE, 404, said(ABSENT, "Model Version (name=churn, version=7) not found"), VersionNotFound),
    (WRITE, 404, said(ABSENT, "Registered Model with name=churn not found"), ModelNotFound),
    (requests.get_run("f" * 32), 404, said(ABSENT, "Run with id=ff not found"), RunNotFound),
    (requests.get_logged_model("m-1"), 404, said(ABSENT, "Logged model"), LoggedModelNotFound),
    (READ, 401, b"You are not authenticated.", Unauthenticated),
    (READ, 403, b"Permission denied", Forbidden),
    (READ, 403, b"Invalid Host header - possible DNS rebinding attack detected", HostNotAllowed),
    (READ, 400, said("INVALID_PARAMETER_VALUE", "Invalid model name 'a/b'"), InvalidName),
    (READ, 400, said("INVALID_PARAMETER_VALUE", "Invalid value for max_results"), InvalidRequest),
    (READ, 400, HTML, NotMlflow),
    (WRITE, 400, said("RESOURCE_ALREADY_EXISTS", "exists"), Conflict),
    (WRITE, 409, b"{}", Conflict),
    (READ, 414, HTML, TooLarge),
    (READ, 302, HTML, NotMlflow),
    (READ, 500, said("INTERNAL_ERROR", "database is locked"), RegistryUnavailable),
    (READ, 502, HTML, RegistryUnavailable),
    (WRITE, 500, said("INTERNAL_ERROR", "database is locked"), AmbiguousWrite),
    (WRITE, 504, HTML, AmbiguousWrite),
    (WRITE, 501, HTML, EndpointMissing),
    (READ, 500, said("FEATURE_DISABLED", "workspaces are not enabled"), WorkspaceUnsupported),
]


@pytest.mark.parametrize(("call", "status", "body", "expected"), TABLE)
def test_each_answer_has_its_error(
    call: answers.Call, status: int, body: bytes, expected: type[RegistryError]
) -> None:
    with pytest.raises(RegistryError) as raised:
        answers.raise_for_status(answer(status, body), call, ADDRESS, [])
    assert type(raised.value) is expected
    assert ADDRESS in str(raised.value) or isinstance(raised.value, HostNotAllowed)


@pytest.mark.parametrize("body", [HTML, b"", b"[1]", b'{"registered_model": 3}', b'{"regis'])
def test_an_answer_of_another_kind_is_not_mlflow(body: bytes) -> None:
    with pytest.raises(NotMlflow):
        answers.decode(answer(200, body), wire.ModelAnswer, READ, ADDRESS)


def test_the_host_check_is_explained_with_the_names_to_allow() -> None:
    with pytest.raises(HostNotAllowed, match=r"--allowed-hosts listing mlflow\.ml\.svc:5000"):
        answers.raise_for_status(answer(403, b"Invalid Host header"), READ, ADDRESS, [])


def test_a_server_that_repeats_a_secret_does_not_put_it_into_the_message() -> None:
    body = said("INVALID_PARAMETER_VALUE", "bad token s3cr3t-t0ken")
    with pytest.raises(InvalidRequest) as raised:
        answers.raise_for_status(answer(400, body), READ, ADDRESS, ["s3cr3t-t0ken"])
    assert "s3cr3t-t0ken" not in str(raised.value)
    assert "***" in str(raised.value)


def test_a_long_answer_is_cut_in_the_message() -> None:
    body = said("INVALID_PARAMETER_VALUE", "x" * 100_000)
    with pytest.raises(InvalidRequest) as raised:
        answers.raise_for_status(answer(400, body), READ, ADDRESS, [])
    assert len(str(raised.value)) < 600


@pytest.mark.parametrize(
    "uri",
    [
        "http://anna:s3cr3t@mlflow:5000",
        "https://s3cr3t@mlflow",
        "databricks://s3cr3t",
        "mlflow:5000/s3cr3t",
        "https://mlflow/?token=s3cr3t",
        "https://mlflow/#s3cr3t",
        "http://[s3cr3t",
        "",
    ],
)
def test_an_address_that_cannot_be_used_is_refused_without_repeating_it(uri: str) -> None:
    with pytest.raises(InvalidAddress) as raised:
        checked_address(uri)
    assert "s3cr3t" not in str(raised.value)


def test_credentials_hide_what_they_hold() -> None:
    for held in (Credentials(username="u", password="s3cr3t"), Credentials(token="s3cr3t")):
        assert "s3cr3t" not in f"{held!r} {held}"


def test_every_part_of_an_address_is_encoded_once() -> None:
    call = requests.get_model("100% a+b&c/ü?")
    url = str(call.url(checked_address("http://h:1/prefix/")))
    assert url == (
        "http://h:1/prefix/api/2.0/mlflow/registered-models/get?name=100%25%20a%2Bb%26c%2F%C3%BC%3F"
    )


@pytest.mark.parametrize("name", ["", "  ", "a\0b"])
def test_a_name_that_no_server_can_hold_is_refused_here(name: str) -> None:
    with pytest.raises(InvalidName):
        requests.get_model(name)


@pytest.mark.parametrize("model_id", ["m-../../x", "m-1?x=y", "", "m-ü"])
def test_an_id_of_a_logged_model_cannot_change_the_path(model_id: str) -> None:
    with pytest.raises(InvalidName):
        requests.get_logged_model(model_id)


@pytest.mark.parametrize(
    "body",
    [
        b'{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"registered_model": {"latest_versions": [{"creation_timestamp": 1e400}]}}',
    ],
    ids=["nested", "out of range"],
)
def test_json_that_cannot_be_taken_in_is_not_mlflow(body: bytes) -> None:
    with pytest.raises(NotMlflow):
        answers.decode(answer(200, body), wire.ModelAnswer, READ, ADDRESS)
    with pytest.raises(RegistryError):
        answers.raise_for_status(answer(500, body), READ, ADDRESS, [])


@pytest.mark.parametrize("number", ['"abc"', "9" * 50, '"' + "9" * 5000 + '"', "-1e300", "null"])
def test_a_number_that_makes_no_sense_harms_nothing(number: str) -> None:
    """It would come out of every poll as an error that nobody expects."""
    version = f'{{"version": "{"9" * 5000}", "creation_timestamp": {number}}}'
    body = f'{{"registered_model": {{"latest_versions": [{version}, {{"version": "2"}}]}}}}'
    decoded = answers.decode(answer(200, body.encode()), wire.ModelAnswer, READ, ADDRESS)
    model = wire.model_from(decoded.registered_model)
    assert [version.version for version in model.latest_versions] == ["2"]
    metric = f'{{"key": "m", "value": {number}, "step": {number}, "timestamp": {number}}}'
    logged = f'{{"model": {{"info": {{}}, "data": {{"metrics": [{metric}]}}}}}}'.encode()
    found = answers.decode(answer(200, logged), wire.LoggedModelAnswer, READ, ADDRESS)
    assert len(wire.logged_model_from(found.model).metrics) == 1
