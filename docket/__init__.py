"""Docket resolves typed steps and keeps the results you cannot afford to lose, in your Postgres."""

from docket._certify.reconcile import NOT_APPLIED as NOT_APPLIED
from docket._certify.reconcile import NotAppliedType as NotAppliedType
from docket._core.plan import Plan as Plan
from docket._core.step import Run as Run
from docket._core.step import Transaction as Transaction
from docket._core.types import IfCertified as IfCertified
from docket._runs.supplied import As as As
from docket.docket import Docket as Docket
from docket.errors import Busy as Busy
from docket.errors import ConfigurationError as ConfigurationError
from docket.errors import DeadlineExceeded as DeadlineExceeded
from docket.errors import DocketError as DocketError
from docket.errors import InDoubt as InDoubt
from docket.errors import InputsChanged as InputsChanged
from docket.errors import MissingInput as MissingInput
from docket.errors import NeedsForce as NeedsForce
from docket.errors import NotApplied as NotApplied
from docket.errors import NotCertified as NotCertified
from docket.errors import NotYet as NotYet
from docket.errors import Refused as Refused
from docket.errors import RetryLater as RetryLater
from docket.errors import RunError as RunError
from docket.errors import StepTimeout as StepTimeout
from docket.errors import WaitingFor as WaitingFor
from docket.errors import WiringError as WiringError
from docket.graph import Graph as Graph
from docket.retry import Retry as Retry

__all__ = [
    "NOT_APPLIED",
    "As",
    "Busy",
    "ConfigurationError",
    "DeadlineExceeded",
    "Docket",
    "DocketError",
    "Graph",
    "IfCertified",
    "InDoubt",
    "InputsChanged",
    "MissingInput",
    "NeedsForce",
    "NotApplied",
    "NotAppliedType",
    "NotCertified",
    "NotYet",
    "Plan",
    "Refused",
    "Retry",
    "RetryLater",
    "Run",
    "RunError",
    "StepTimeout",
    "Transaction",
    "WaitingFor",
    "WiringError",
]
