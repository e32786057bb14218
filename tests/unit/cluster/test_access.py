"""How Podium finds the API server and its credentials, in a pod and outside."""

import ssl
from pathlib import Path

import pytest
import yaml

from podium.cluster import AccessError, load_access
from podium.cluster import access as module
from podium.cluster.access import ServiceAccountAccess


@pytest.fixture
def mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ServiceAccount's files, and the variables that a pod has."""
    (tmp_path / "token").write_text("first\n")
    system = ssl.get_default_verify_paths().cafile or "/etc/ssl/certs/ca-certificates.crt"
    (tmp_path / "ca.crt").write_bytes(Path(system).read_bytes())
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    return tmp_path


async def test_a_rotated_token_is_read_again(
    mounted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    access = ServiceAccountAccess(mounted)
    assert access.server == "https://10.96.0.1:443"
    assert await access.authorization() == "Bearer first"
    (mounted / "token").write_text("second\n")
    assert await access.authorization() == "Bearer first"
    assert await access.authorization(again=True) == "Bearer second"
    (mounted / "token").write_text("third\n")
    monkeypatch.setattr(module, "TOKEN_AGE_SECONDS", -1.0)
    assert await access.authorization() == "Bearer third"
    (mounted / "token").unlink()  # the kubelet swaps it
    assert await access.authorization(again=True) == "Bearer third"


def test_an_ipv6_address_is_put_in_brackets(mounted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    assert ServiceAccountAccess(mounted).server == "https://[fd00::1]:443"


def test_a_pod_without_a_token_is_told_what_to_set(mounted: Path) -> None:
    (mounted / "token").unlink()
    with pytest.raises(AccessError, match="automountServiceAccountToken"):
        ServiceAccountAccess(mounted)


async def test_a_kubeconfig_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(AccessError, match="nowhere"):
        await load_access(str(tmp_path / "nowhere"))


async def test_a_kubeconfig_is_read_again_when_its_token_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config"

    def write(token: str) -> None:
        content = {
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
            "clusters": [{"name": "k", "cluster": {"server": "https://127.0.0.1:6443/"}}],
            "users": [{"name": "u", "user": {"token": token}}],
        }
        path.write_text(yaml.safe_dump(content))

    write("first")
    access = await load_access(str(path))
    assert access.server == "https://127.0.0.1:6443"
    assert await access.authorization() == "Bearer first"
    write("second")
    assert await access.authorization() == "Bearer first"
    assert await access.authorization(again=True) == "Bearer second"
