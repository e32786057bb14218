"""Signs ledger entries with Ed25519 and checks the signatures of others.

The private key is in a Secret of the operator's namespace. It is made once: of two operators
that start together, one's `create` wins and both use what is stored then.
"""

import base64
import binascii
import contextlib
import hashlib
from collections.abc import Iterable, Mapping
from typing import Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from msgspec.structs import replace

from podium.api.ledger_entry import LedgerEntry
from podium.cluster.errors import AlreadyExists

SECRET_NAME = "podium-ledger-key"  # noqa: S105 - the name, not the secret
SECRET_KEY = "ed25519"  # noqa: S105
MAX_REMEMBERED = 50_000


class SecretStore(Protocol):
    """The two calls of the Kubernetes client that the key needs."""

    async def get_secret(self, namespace: str, name: str) -> Mapping[str, bytes] | None: ...

    async def create_secret(
        self, namespace: str, name: str, values: Mapping[str, bytes]
    ) -> None: ...


class KeyUnusableError(Exception):
    """The Secret is there and holds no such key; the message says what to do."""


class Signer:
    """The operator's key. `public` is base64, as the ledger's head and the status carry it."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = base64.b64encode(key.public_key().public_bytes_raw()).decode()

    def sign(self, entry: LedgerEntry) -> LedgerEntry:
        """The entry with a signature over its hash; one that has a signature keeps it."""
        if entry.signature is not None:
            return entry
        signature = self._key.sign(entry.hash.encode())
        return replace(entry, signature=base64.b64encode(signature).decode())


async def load_or_create(secrets: SecretStore, namespace: str) -> Signer:
    """The operator's key, made when there is none. Raises ClusterError, KeyUnusableError."""
    stored = await secrets.get_secret(namespace, SECRET_NAME)
    if stored is None:
        fresh = Ed25519PrivateKey.generate()
        with contextlib.suppress(AlreadyExists):
            await secrets.create_secret(
                namespace, SECRET_NAME, {SECRET_KEY: fresh.private_bytes_raw()}
            )
        # Also after our own create: what is stored counts, not what was sent.
        stored = await secrets.get_secret(namespace, SECRET_NAME) or {}
    try:
        return Signer(Ed25519PrivateKey.from_private_bytes(stored.get(SECRET_KEY, b"")))
    except ValueError:
        raise KeyUnusableError(
            f"Secret {namespace}/{SECRET_NAME} has no Ed25519 key of 32 bytes under "
            f'"{SECRET_KEY}". Restore it from a backup; or delete it, and Podium makes a new key '
            "(then each promotion asks for a Release, because it does not know the new signer)."
        ) from None


class Verifier:
    """Which entries' signatures do not verify. Remembers those that do: entries never change."""

    def __init__(self) -> None:
        self._good: dict[bytes, None] = {}  # digests: 50,000 of the texts were 20 MB

    def bad(self, entries: Iterable[LedgerEntry], keys: Iterable[str]) -> frozenset[LedgerEntry]:
        """The entries that none of `keys` (base64) signed."""
        public = tuple(dict.fromkeys(key for key in keys if key))
        return frozenset(e for e in entries if not any(self._verifies(e, k) for k in public))

    def _verifies(self, entry: LedgerEntry, key: str) -> bool:
        if entry.signature is None:
            return False
        text = f"{key} {entry.hash} {entry.signature}".encode()
        seen = hashlib.blake2b(text, digest_size=16).digest()
        if seen in self._good:
            return True
        try:
            public = Ed25519PublicKey.from_public_bytes(base64.b64decode(key, validate=True))
            public.verify(base64.b64decode(entry.signature, validate=True), entry.hash.encode())
        except (InvalidSignature, ValueError, binascii.Error):
            return False
        if len(self._good) >= MAX_REMEMBERED:
            self._good.pop(next(iter(self._good)))
        self._good[seen] = None
        return True
