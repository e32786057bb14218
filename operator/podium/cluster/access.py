"""Where the API server is and how Podium proves who it is.

In a pod: the ServiceAccount's token, read again as the kubelet rotates it. Elsewhere: a
kubeconfig, read with the official client's loader, which is imported only then because its
models cost 20 MB. Sends nothing.
"""

import os
import ssl
import time
from pathlib import Path
from typing import Protocol

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
TOKEN_AGE_SECONDS = 60.0  # the kubelet replaces a token long before it expires


class AccessError(Exception):
    """Neither a ServiceAccount nor a usable kubeconfig was found; the message says which."""


class Access(Protocol):
    """The address of one API server, and what every request to it carries."""

    @property
    def server(self) -> str:
        """Like `https://10.96.0.1:443`, without a slash at the end."""

    @property
    def tls(self) -> ssl.SSLContext | None: ...

    @property
    def server_name(self) -> str | None:
        """The name in the server's certificate, when it is not that of the address."""

    @property
    def proxy(self) -> str | None: ...

    async def authorization(self, *, again: bool = False) -> str | None:
        """The Authorization header. `again`: the last one was refused, so read it anew."""


async def load_access(kubeconfig: str | None = None, context: str | None = None) -> Access:
    """The pod's ServiceAccount if there is one, else the kubeconfig (by default $KUBECONFIG or
    ~/.kube/config). Naming a kubeconfig or a context asks for it. Raises AccessError."""
    in_pod = "KUBERNETES_SERVICE_HOST" in os.environ and (SERVICE_ACCOUNT / "token").exists()
    if in_pod and kubeconfig is None and context is None:
        return ServiceAccountAccess()
    return await KubeconfigAccess.load(kubeconfig, context)


class ServiceAccountAccess:
    """Access from inside a pod."""

    server_name = None
    proxy = None

    def __init__(self, folder: Path = SERVICE_ACCOUNT) -> None:
        try:
            host = os.environ["KUBERNETES_SERVICE_HOST"]
            port = os.environ.get("KUBERNETES_SERVICE_PORT", "443")
            self._token_file = folder / "token"
            self.tls = _tls_context(str(folder / "ca.crt"))
            self._token = self._token_file.read_text().strip()
        except (KeyError, OSError) as error:
            raise AccessError(
                f"This pod has no usable ServiceAccount token in {folder} ({error}): "
                "set automountServiceAccountToken: true."
            ) from error
        self.server = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
        self._read_at = time.monotonic()

    async def authorization(self, *, again: bool = False) -> str | None:
        if again or time.monotonic() - self._read_at > TOKEN_AGE_SECONDS:
            # While the kubelet swaps the file, the token in hand is still good.
            token = self._token_file.read_text().strip() if self._token_file.exists() else ""
            self._token = token or self._token
            self._read_at = time.monotonic()
        return f"Bearer {self._token}"


class KubeconfigAccess:
    """Access from a person's machine, or from a test."""

    def __init__(
        self,
        *,
        server: str,
        tls: ssl.SSLContext | None,
        server_name: str | None,
        proxy: str | None,
        authorization: str | None,
        source: tuple[str | None, str | None],
    ) -> None:
        self.server = server
        self.tls = tls
        self.server_name = server_name
        self.proxy = proxy
        self._authorization = authorization
        self._source = source

    @classmethod
    async def load(cls, kubeconfig: str | None, context: str | None) -> "KubeconfigAccess":
        from kubernetes.aio.client import Configuration
        from kubernetes.aio.config import ConfigException, load_kube_config

        loaded = Configuration()
        try:
            await load_kube_config(
                config_file=kubeconfig,
                context=context,
                client_configuration=loaded,
                persist_config=False,
            )
        except (ConfigException, OSError) as error:
            where = kubeconfig or os.environ.get("KUBECONFIG") or "~/.kube/config"
            raise AccessError(
                f"The kubeconfig {where} cannot be used: {error}. Outside of a cluster, set "
                "KUBECONFIG to a file that kubectl works with."
            ) from error
        tls = None
        if loaded.host.startswith("https"):
            tls = _tls_context(loaded.ssl_ca_cert)
            if loaded.cert_file:
                tls.load_cert_chain(loaded.cert_file, loaded.key_file)
            if not loaded.verify_ssl:
                tls.check_hostname = False
                tls.verify_mode = ssl.CERT_NONE
        return cls(
            server=loaded.host.rstrip("/"),
            tls=tls,
            server_name=loaded.tls_server_name,
            proxy=loaded.proxy,
            authorization=loaded.api_key.get("BearerToken"),
            source=(kubeconfig, context),
        )

    async def authorization(self, *, again: bool = False) -> str | None:
        if again:
            self._authorization = (await self.load(*self._source))._authorization
        return self._authorization


def _tls_context(ca_file: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca_file)
    # Python 3.13 turns this on; the CAs of several hosted Kubernetes lack the extension it wants.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context
