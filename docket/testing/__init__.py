"""The contracts as code: what every cache and every queue driver keeps to. For drivers of your own, and for your tests."""

from docket.testing.cache import RULES as CACHE_RULES
from docket.testing.cache import Rule as CacheRule
from docket.testing.cache import exercise_cache as exercise_cache
from docket.testing.queue import RULES as QUEUE_RULES
from docket.testing.queue import exercise_queue as exercise_queue
from docket.testing.rig import ATTEMPTS as ATTEMPTS
from docket.testing.rig import QUEUE as QUEUE
from docket.testing.rig import QueueRig as QueueRig

__all__ = ["ATTEMPTS", "CACHE_RULES", "QUEUE", "QUEUE_RULES", "CacheRule", "QueueRig", "exercise_cache", "exercise_queue"]
