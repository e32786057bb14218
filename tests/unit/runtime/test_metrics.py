"""What /metrics says, while what it says of changes."""

import gc
import sys
import threading
from typing import cast

from podium.runtime.cache import Cache
from podium.runtime.keys import Name
from podium.runtime.metrics import Metrics
from podium.runtime.queue import KeyedQueue
from podium.runtime.registries import Registries


class _Registries:
    def poll_lags(self) -> dict[Name, float]:
        return {Name("a", "mlflow"): 2.5}


def _collected(*_: object) -> None:
    """Threads may switch here, as in any finalizer that the garbage collector calls."""
    sum(range(100))


def _promotion(number: int) -> dict[str, object]:
    metadata = {"namespace": "a", "name": f"p-{number}", "uid": f"uid-{number}"}
    spec = {"model": f"model-{number}"}
    champion = {"version": "7", "since": "2026-11-22T00:00:00Z"}
    return {"metadata": metadata, "spec": spec, "status": {"champion": champion}}


def test_a_scrape_in_a_thread_of_its_own_bears_that_promotions_come_and_go() -> None:
    cache, metrics, texts = Cache(), Metrics(), []
    queue: KeyedQueue[int] = KeyedQueue(workers=1, clock=lambda: 1.0)
    metrics.watch(cache, cast(Registries, _Registries()), queue.stats, lambda: True)
    for number in range(200):
        cache.put_promotion(_promotion(number))
        queue.add(number)
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    gc.callbacks.append(_collected)
    try:
        scraping = threading.Thread(target=lambda: texts.extend(metrics.text() for _ in range(5)))
        scraping.start()
        number = 200
        while scraping.is_alive():
            cache.put_promotion(_promotion(number))
            queue.add(number)
            if number % 2:
                cache.remove_promotion(Name("a", f"p-{number}"))
                queue.drop(number)
            number += 1
    finally:
        sys.setswitchinterval(usual)
        gc.callbacks.remove(_collected)
    assert len(texts) == 5 and number > 210
    champion = b'alias="champion",model="model-8",namespace="a",promotion="p-8",version="7"} 1.0'
    assert all(b"podium_champion_info{" + champion in text for text in texts)
    assert b'podium_poll_lag_seconds{registry="a/mlflow"} 2.5' in texts[-1]
    assert b"podium_leader 1.0" in texts[-1]
