"""Installs the few Debian packages that a real node and image builds need."""

import os
import shutil
from collections.abc import Mapping, Sequence

from testbed.errors import TestbedError
from testbed.processes import run
from testbed.progress import phase

NODE = {"runc": "runc", "iptables": "iptables", "ip": "iproute2", "openssl": "openssl"}
IMAGES = {"buildah": "buildah", "debootstrap": "debootstrap"}


def require(commands: Mapping[str, str], why: str) -> None:
    """Install the packages whose command is missing, or say what to install."""
    missing = [package for command, package in commands.items() if not _there(command)]
    if not missing:
        return
    wanted = " ".join(missing)
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise TestbedError(f"{why} needs: {wanted}. As root on Debian: apt-get install {wanted}")
    with phase(f"Installing Debian packages for {why}: {wanted}"):
        try:
            _install(missing)
        except TestbedError:
            # Package lists may be absent or old; an unreachable third-party list is no reason
            # to stop, so only the second install decides.
            try:
                run(["apt-get", "update", "-q"], timeout=300)
            except TestbedError as stale:
                note = str(stale)
            else:
                note = ""
            try:
                _install(missing)
            except TestbedError as failure:
                raise TestbedError(f"{failure}\n{note}".strip()) from None


def _install(packages: Sequence[str]) -> None:
    flags = ["-y", "-q", "--no-install-recommends"]
    quiet = ["env", "DEBIAN_FRONTEND=noninteractive"]
    run([*quiet, "apt-get", "install", *flags, *packages], timeout=900)


def _there(command: str) -> bool:
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    return shutil.which(command, path=path) is not None
