"""The contracts as code: what every cache and every queue driver keeps to. For drivers of your own, and for your tests."""

from docket._exercise_cache import RULES as CACHE_RULES
from docket._exercise_cache import Rule as CacheRule
from docket._exercise_cache import exercise_cache as exercise_cache
from docket._exercise_queue import RULES as QUEUE_RULES
from docket._exercise_queue import exercise_queue as exercise_queue
from docket._queue_bench import ATTEMPTS as ATTEMPTS
from docket._queue_bench import QUEUE as QUEUE
from docket._queue_bench import QueueRig as QueueRig

__all__ = ["ATTEMPTS", "CACHE_RULES", "QUEUE", "QUEUE_RULES", "CacheRule", "QueueRig", "exercise_cache", "exercise_queue"]
