"""`podium-operator` as it runs in a pod: by a ServiceAccount's folder and not by a kubeconfig.

With a kubeconfig it loads the official client's models, some twenty megabytes that no pod pays.
Only the folder is another than the kubelet's: SERVICE_ACCOUNT names it.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path

from podium.cluster.access import Access, ServiceAccountAccess
from podium.runtime import logs
from podium.runtime.main import Outside, run
from podium.runtime.settings import parse


async def _access() -> Access:
    return ServiceAccountAccess(Path(os.environ["SERVICE_ACCOUNT"]))


async def _run() -> int:
    settings, stop = parse(), asyncio.Event()
    logs.configure(settings.log_level)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return await run(settings, stop, Outside(load_access=_access))


if __name__ == "__main__":
    sys.exit(asyncio.run(_run()))
