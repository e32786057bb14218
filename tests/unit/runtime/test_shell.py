"""How kopf gets into the cluster: with our access, read anew when it was refused; and what the
start of the operator does not load for it."""

import subprocess
import sys

from podium.runtime.shell import _Sessions


class Access:
    server = "https://10.0.0.1"
    tls = None
    server_name = None
    proxy = None

    def __init__(self) -> None:
        self.asked: list[bool] = []

    async def authorization(self, *, again: bool = False) -> str | None:
        self.asked.append(again)
        return f"Bearer token-{len(self.asked)}"


async def test_a_second_login_reads_the_token_again_and_all_sessions_are_closed() -> None:
    access = Access()
    sessions = _Sessions(access, lambda _: None)
    made = [(await sessions.login()).aiohttp_session for _ in range(2)]
    assert access.asked == [False, True]
    assert [each.headers["Authorization"] for each in made] == ["Bearer token-1", "Bearer token-2"]
    await sessions.close()
    assert all(session.closed for session in made)


def test_a_start_does_not_load_the_official_client_and_leaves_it_loadable() -> None:
    program = (
        "import sys; import podium.runtime.main; print('kubernetes' in sys.modules); "
        "import kubernetes.aio.client; import kopf; print(kopf.on.event.__module__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == ["False", "kopf.on"]
