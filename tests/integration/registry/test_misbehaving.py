"""The client against servers that are unwell: its errors, its patience, what it repeats."""

from __future__ import annotations

import asyncio
import random
import resource
import time
import zlib
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import web

from podium.registry import (
    AmbiguousWrite,
    Capabilities,
    Clock,
    Credentials,
    CredentialsUnavailable,
    EndpointMissing,
    HostNotAllowed,
    NotMlflow,
    RegistryClient,
    RegistryError,
    RegistryThrottled,
    RegistryUnavailable,
    StagesUnsupported,
    SystemClock,
    TooLarge,
    Unauthenticated,
)
from podium.registry.connection import seconds_until_worthwhile
from testbed.postgres import free_port
from tests.integration.registry.stub import (
    Behaviour,
    Stub,
    breaks_off,
    floods,
    hangs,
    hangs_up,
    says,
)

WHOLE = Capabilities(
    server_version="3.17.2",
    aliases=True,
    stages=True,
    webhooks=True,
    name_in=True,
    versions_name_in=True,
    workspaces=False,
    logged_models=True,
)
MODEL = says(200, '{"registered_model": {"name": "churn"}}')
DONE = says(200, "{}")
HTML = says(200, "<html>Sign in</html>", "text/html")
HOST = "Invalid Host header - possible DNS rebinding attack detected"
Use = Callable[[RegistryClient], Awaitable[object]]


class HandClock(SystemClock):
    """A clock that only `sleep` and the test move."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds


class Outcomes(list[tuple[str, str]]):
    """What the client told its observer."""

    def __call__(self, operation: str, seconds: float, outcome: str) -> None:
        assert seconds >= 0
        self.append((operation, outcome))


def client_of(
    uri: str,
    *,
    credentials: Callable[[], Awaitable[Credentials | None]] | None = None,
    outcomes: Outcomes | None = None,
    timeout: float = 10.0,
    able: Capabilities | None = WHOLE,
    clock: Clock | None = None,
) -> RegistryClient:
    async def none() -> Credentials | None:
        return None

    client = RegistryClient(
        tracking_uri=uri,
        workspace=None,
        credentials=credentials or none,
        ca_pem=None,
        request_timeout=timeout,
        rate_limit_per_second=10_000,
        on_request=outcomes,
        clock=clock or SystemClock(),
        rng=random.Random(1),
        max_answer_bytes=1024 * 1024,
    )
    # The probe has its own tests; here each request of the stub is one of the call's own.
    client._capabilities = able
    return client


async def read(client: RegistryClient) -> object:
    return await client.get_model("churn")


async def write(client: RegistryClient) -> None:
    await client.set_alias("churn", "champion", "7")


async def delete(client: RegistryClient) -> None:
    await client.delete_alias("churn", "champion")


TABLE: list[tuple[str, Behaviour, Use, type[RegistryError], int]] = [
    ("read, 500", says(500, '{"error_code": "INTERNAL_ERROR"}'), read, RegistryUnavailable, 3),
    ("write, 500", says(500, '{"error_code": "INTERNAL_ERROR"}'), write, AmbiguousWrite, 1),
    ("read, HTML", HTML, read, NotMlflow, 1),
    ("write, HTML", HTML, write, NotMlflow, 1),
    ("read, 404 HTML", says(404, "<html>", "text/html"), read, EndpointMissing, 1),
    ("read, host check", says(403, HOST, "text/plain"), read, HostNotAllowed, 1),
    ("write, host check", says(403, HOST, "text/plain"), write, HostNotAllowed, 1),
    ("read, login page", says(302, "", Location="https://sso/?x"), read, NotMlflow, 1),
    ("read, 429", says(429, "{}", Retry_After="7"), read, RegistryThrottled, 1),
    ("write, 429", says(429, "{}", Retry_After="7"), write, RegistryThrottled, 1),
    ("read, hang", hangs, read, RegistryUnavailable, 1),
    ("write, hang", hangs, write, AmbiguousWrite, 1),
    ("read, hang up", hangs_up, read, RegistryUnavailable, 3),
    ("write, hang up", hangs_up, write, AmbiguousWrite, 1),
    ("delete, hang up", hangs_up, delete, AmbiguousWrite, 1),
    ("read, break off", breaks_off, read, RegistryUnavailable, 3),
    ("write, break off", breaks_off, write, AmbiguousWrite, 1),
    ("read, flood", floods, read, TooLarge, 1),
    ("read, other JSON", says(200, '["a"]'), read, NotMlflow, 1),
]


@pytest.mark.parametrize(
    ("behaviour", "use", "expected", "requests"), [r[1:] for r in TABLE], ids=[r[0] for r in TABLE]
)
async def test_each_misbehaviour_has_its_error_and_only_reads_are_repeated(
    behaviour: Behaviour, use: Use, expected: type[RegistryError], requests: int
) -> None:
    outcomes = Outcomes()
    async with Stub(behaviour) as stub:
        patience = 0.3 if behaviour is hangs else 10.0
        client = client_of(stub.uri, outcomes=outcomes, timeout=patience)
        began = time.monotonic()
        with pytest.raises(RegistryError) as raised:
            await use(client)
        assert time.monotonic() - began < patience + 3.0
        await client.close()
    assert type(raised.value) is expected, raised.value
    assert len(stub.requests) == requests
    assert {outcome for _, outcome in outcomes} == {raised.value.reason.value}


@pytest.mark.parametrize("fault", [says(503, ""), hangs_up, breaks_off])
async def test_a_read_that_fails_once_is_repeated_and_succeeds(fault: Behaviour) -> None:
    async with Stub(fault, MODEL) as stub:
        client = client_of(stub.uri)
        assert (await client.get_model("churn")).name == "churn"
        await client.close()
    assert len(stub.requests) == 2


async def test_a_delete_on_a_connection_that_breaks_is_not_sent_twice() -> None:
    async with Stub(MODEL, hangs_up, DONE) as stub:
        client = client_of(stub.uri)
        await client.get_model("churn")
        with pytest.raises(AmbiguousWrite):
            await client.delete_alias("churn", "champion")
        await client.close()
    assert [method for method, _ in stub.requests] == ["GET", "DELETE"]


async def test_a_write_to_a_closed_port_was_not_done() -> None:
    client = client_of(f"http://127.0.0.1:{free_port()}")
    with pytest.raises(RegistryUnavailable, match="cannot be reached"):
        await client.set_alias("churn", "champion", "7")
    await client.close()


async def test_a_slow_commit_is_ambiguous_and_was_done() -> None:
    commit, committed = asyncio.Event(), asyncio.Event()

    async def commits_late(request: web.Request) -> web.StreamResponse:
        await commit.wait()
        committed.set()
        return await DONE(request)

    async with Stub(commits_late) as stub:
        client = client_of(stub.uri, timeout=0.3)
        with pytest.raises(AmbiguousWrite, match="may or may not"):
            await client.set_alias("churn", "champion", "7")
        assert not committed.is_set()
        commit.set()
        await asyncio.wait_for(committed.wait(), 10)
        await client.close()


async def test_a_write_never_outlives_its_deadline_even_when_the_probe_comes_first() -> None:
    async with Stub(hangs) as stub:
        client = client_of(stub.uri, timeout=0.3, able=None)
        began = time.monotonic()
        with pytest.raises(RegistryUnavailable):
            await client.set_alias("churn", "champion", "7")
        assert time.monotonic() - began < 3.0
        await client.close()
    assert [method for method, _ in stub.requests] == ["GET"]


@pytest.mark.parametrize("kept_connection", [False, True])
async def test_a_process_that_slept_past_the_deadline_of_a_write_sends_nothing(
    kept_connection: bool,
) -> None:
    """As after SIGSTOP: the fence was asked, and the Lease is somebody else's by now."""

    class SleptThrough(SystemClock):
        slept = 0.0

        def monotonic(self) -> float:
            return super().monotonic() + self.slept

    clock = SleptThrough()

    async def credentials() -> Credentials | None:
        clock.slept += 61.0  # so old that they are read again each time
        return None

    async with Stub(MODEL) as stub:
        client = client_of(stub.uri, clock=clock, credentials=credentials)
        if kept_connection:
            await client.get_model("churn")
        with pytest.raises(RegistryUnavailable):
            await client.set_alias("churn", "champion", "7")
        await client.close()
    assert "POST" not in [method for method, _ in stub.requests]


async def test_a_server_that_keeps_failing_is_left_alone_and_found_well_again() -> None:
    clock = HandClock()
    async with Stub(*[says(500, "{}")] * 6, MODEL) as stub:
        client = client_of(stub.uri, clock=clock)
        for _ in range(2):
            with pytest.raises(RegistryUnavailable):
                await client.get_model("churn")
        asked = len(stub.requests)
        for _ in range(20):
            with pytest.raises(RegistryUnavailable, match="times in a row"):
                await client.get_model("churn")
        assert len(stub.requests) == asked == 5
        clock.seconds += 1.0
        with pytest.raises(RegistryUnavailable):
            await client.get_model("churn")
        assert len(stub.requests) == asked + 1
        clock.seconds += 2.0
        assert (await client.get_model("churn")).name == "churn"
        await client.close()


async def test_a_throttling_server_is_left_alone_for_as_long_as_it_wants() -> None:
    clock = HandClock()
    async with Stub(says(429, "{}", Retry_After="7"), MODEL) as stub:
        client = client_of(stub.uri, clock=clock)
        for _ in range(3):
            with pytest.raises(RegistryThrottled) as refused:
                await client.get_model("churn")
            assert refused.value.retry_after == 7
        assert len(stub.requests) == 1
        clock.seconds += 7.1
        await client.get_model("churn")
        await client.close()


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [("7", 7.0), ("Sat, 21 Nov 2099 12:00:00 GMT", 300.0), ("999999", 300.0), ("soon", 5.0)],
)
@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_is_kept_by_every_call_and_bounded(
    status: int, asked: str, seconds: float
) -> None:
    clock = HandClock()
    expected = RegistryThrottled if status == 429 else RegistryUnavailable
    async with Stub(says(status, "{}", Retry_After=asked), MODEL) as stub:
        client = client_of(stub.uri, clock=clock)
        for use in (read, write, delete):
            with pytest.raises(expected) as refused:
                await use(client)
            assert seconds_until_worthwhile(refused.value) == pytest.approx(seconds)
        assert len(stub.requests) == 1
        clock.seconds += seconds + 0.1
        await client.get_model("churn")
        await client.close()


async def test_a_write_answered_503_may_have_been_done_and_the_server_is_left_alone() -> None:
    async with Stub(says(503, "{}", Retry_After="7"), MODEL) as stub:
        client = client_of(stub.uri, clock=HandClock())
        with pytest.raises(AmbiguousWrite):
            await write(client)
        with pytest.raises(RegistryUnavailable, match="Retry-After"):
            await read(client)
        await client.close()
    assert len(stub.requests) == 1


async def test_a_client_that_was_replaced_opens_no_connection_again() -> None:
    async with Stub(MODEL) as stub:
        client = client_of(stub.uri)
        await client.get_model("churn")
        await client.close()
        with pytest.raises(RegistryUnavailable, match="was replaced"):
            await client.get_model("churn")
        assert client._session is None
    assert len(stub.requests) == 1


async def test_an_unexpected_error_does_not_keep_the_breaker_closed_for_ever() -> None:
    """A header that HTTP does not take raised ValueError in the one request that a half-open
    breaker lets through; it then waited for the end of that request, for ever."""
    clock = HandClock()
    held = [Credentials(token="bad\ntoken"), Credentials(token="good")]

    async def credentials() -> Credentials | None:
        return held[0]

    async with Stub(*[says(500, "{}")] * 5, MODEL) as stub:
        client = client_of(stub.uri, clock=clock, credentials=credentials)
        held.reverse()
        for _ in range(2):
            with pytest.raises(RegistryUnavailable):
                await client.get_model("churn")
        held.reverse()
        clock.seconds += 70
        with pytest.raises(ValueError, match=r"[Hh]eader"):
            await client.get_model("churn")
        held.reverse()
        clock.seconds += 70
        assert (await client.get_model("churn")).name == "churn"
        await client.close()


@pytest.mark.parametrize("said", ["s3cr3t", "YW5uYTpzM2NyM3Q=", "Basic YW5uYTpzM2NyM3Q="])
async def test_a_server_that_repeats_what_it_was_sent_shows_no_credential(said: str) -> None:
    async def credentials() -> Credentials | None:
        return Credentials(username="anna", password="s3cr3t")

    error = f'{{"error_code": "INTERNAL_ERROR", "message": "headers were {said}"}}'
    async with Stub(says(500, error)) as stub:
        client = client_of(stub.uri, credentials=credentials)
        with pytest.raises(RegistryUnavailable) as raised:
            await client.get_model("churn")
        assert "headers were" in str(raised.value)
        assert "s3cr3t" not in str(raised.value) and "YW5u" not in str(raised.value)
        await client.close()


async def test_a_renewed_credential_is_read_on_401_and_the_request_repeated_once() -> None:
    held = [Credentials(token="old"), Credentials(token="new")]

    async def credentials() -> Credentials | None:
        return held.pop(0)

    async with Stub(says(401, "no"), DONE) as stub:
        client = client_of(stub.uri, credentials=credentials)
        await client.set_alias("churn", "champion", "7")
        await client.close()
    assert [h["Authorization"] for h in stub.headers] == ["Bearer old", "Bearer new"]


async def test_a_wrong_credential_is_not_tried_twice_and_not_shown() -> None:
    async def credentials() -> Credentials | None:
        return Credentials(username="anna", password="s3cr3t")

    async with Stub(says(401, "no s3cr3t here", "text/plain")) as stub:
        client = client_of(stub.uri, credentials=credentials)
        with pytest.raises(Unauthenticated) as raised:
            await client.get_model("churn")
        assert "s3cr3t" not in f"{raised.value} {client!r}"
        await client.close()
    assert len(stub.requests) == 1


async def test_credentials_that_cannot_be_read_send_nothing() -> None:
    async def credentials() -> Credentials | None:
        raise LookupError("secret gone")

    async with Stub(MODEL) as stub:
        client = client_of(stub.uri, credentials=credentials)
        with pytest.raises(CredentialsUnavailable, match="credentialsSecretRef"):
            await client.get_model("churn")
        await client.close()
    assert stub.requests == []


@pytest.mark.parametrize(
    "refusal",
    [
        says(404, "<html>", "text/html"),
        says(404, '{"error_code": "ENDPOINT_NOT_FOUND", "message": "No API found"}'),
        says(
            400,
            '{"error_code": "INVALID_PARAMETER_VALUE", "message": "Stages are not supported for '
            'models in Unity Catalog"}',
        ),
    ],
)
async def test_a_server_that_refuses_stages_is_asked_once(refusal: Behaviour) -> None:
    async with Stub(refusal) as stub:
        client = client_of(stub.uri)
        for _ in range(3):
            with pytest.raises(StagesUnsupported, match=r"spec\.stage"):
                await client.transition_stage("churn", "7", "Production")
        assert not (await client.capabilities()).stages
        await client.close()
    assert len(stub.requests) == 1


async def test_a_page_too_large_is_asked_for_in_smaller_parts() -> None:
    async def big_for_many(request: web.Request) -> web.StreamResponse:
        wanted = request.query["filter"].split('"')[1::2]
        if len(wanted) > 2:
            return await floods(request)
        listed = ",".join(f'{{"name": "{name}"}}' for name in wanted)
        return await says(200, f'{{"registered_models": [{listed}]}}')(request)

    async with Stub(big_for_many) as stub:
        client = client_of(stub.uri)
        names = [f"m{number}" for number in range(7)]
        assert sorted(await client.search_models(names)) == names
        await client.close()


async def test_pages_without_end_are_given_up() -> None:
    page = says(
        200, '{"model_versions": [{"name": "churn", "version": "1"}], "next_page_token": "x"}'
    )
    async with Stub(page) as stub:
        client = client_of(stub.uri)
        with pytest.raises(NotMlflow, match="without end"):
            await client.search_versions("churn")
        await client.close()
    assert len(stub.requests) == 2


async def test_pages_with_ever_new_tokens_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("podium.registry.client.MAX_PAGES", 20)
    page = 0

    async def another(request: web.Request) -> web.StreamResponse:
        nonlocal page
        page += 1
        return await says(200, f'{{"model_versions": [], "next_page_token": "{page}"}}')(request)

    async with Stub(another) as stub:
        client = client_of(stub.uri)
        with pytest.raises(NotMlflow, match="without end"):
            await client.search_versions("churn")
        await client.close()
    assert len(stub.requests) == 21


async def test_many_large_pages_do_not_fill_the_memory() -> None:
    """Each page is below the limit of one answer; together they would be without end."""
    page, tag = 0, "x" * 900_000

    async def another(request: web.Request) -> web.StreamResponse:
        nonlocal page
        page += 1
        listed = (
            f'{{"name": "churn", "version": "{page}", "tags": [{{"key": "k", "value": "{tag}"}}]}}'
        )
        answer = f'{{"model_versions": [{listed}], "next_page_token": "{page}"}}'
        return await says(200, answer)(request)

    async with Stub(another) as stub:
        client = client_of(stub.uri)
        with pytest.raises(TooLarge, match="64 MiB"):
            await client._versions_by("churn", 200)
        await client.close()
    assert 70 <= page <= 80


async def test_a_compressed_gigabyte_is_not_unpacked() -> None:
    packer = zlib.compressobj(9, wbits=31)
    body = b"".join(packer.compress(b" " * 1024**2) for _ in range(1024)) + packer.flush()

    async def bomb(request: web.Request) -> web.StreamResponse:
        headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
        return web.Response(body=body, headers=headers)

    async with Stub(bomb) as stub:
        client = client_of(stub.uri)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with pytest.raises((TooLarge, RegistryUnavailable)):
            await client.get_model("churn")
        await client.close()
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert len(body) > 1_000_000
    assert grown < 200 * 1024, f"{grown // 1024} MiB"


async def test_what_is_no_mlflow_does_not_pass_the_probe() -> None:
    for answer in (HTML, says(404, "<html>", "text/html"), says(200, "[]")):
        async with Stub(answer) as stub:
            client = client_of(stub.uri)
            with pytest.raises(NotMlflow):
                await client.probe()
            await client.close()
