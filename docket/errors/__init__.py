"""Every failure Docket itself raises.

::

    DocketError
    ├── WiringError              the author's: the graph does not fit together; raised before anything runs
    │   └── NoSerializer         a type whose results are to be kept cannot be turned into bytes
    ├── ConfigurationError       the author's: Docket was set up wrongly (no cache, no queue, a bad schema name)
    ├── Unstorable               a value cannot be kept, though its type can
    ├── BadJob                   what a queue carried is no job of Docket's
    └── RunError                 one run's; holds ``run_id``
        ├── BadRunId             the run id is not one Docket accepts
        ├── UnknownTarget        nothing gives what was asked for
        ├── MissingInput         a value is needed that nobody gives and nobody supplied
        ├── UnexpectedInput      a value was supplied that the wiring makes itself, or cannot use
        ├── InputsChanged        the run id was used before with other inputs
        ├── WrongResult          a step returned something other than it declares
        ├── StepTimeout          a step did not answer within its ``timeout``
        ├── DeadlineExceeded     a run did not end within its ``deadline``
        ├── WaitsForItself       a step asked for a run that waits for this very step
        ├── NotYet               a result that was waited for is not there yet
        ├── Busy                 another process holds the step; ask again after ``retry_after``
        ├── InDoubt              an at-most-once step was started and nobody knows how it ended
        ├── BrokenTransaction    a transactional step ended the transaction it was lent
        ├── Purged               the result was deleted by retention, and its effect must not be repeated
        ├── NotInDoubt           a verdict was given on a doubt that is not there (any more)
        ├── NeedsForce           an invalidation would let an effect happen again
        ├── NotCertified         a step is done and its result could not be stored; ``result`` holds it
        ├── Undecodable          a certified result can no longer be read
        │   └── NewerCertificate it was written by a newer version of its step than this process has
        └── SchemaMissing        the tables are not in the database

    NotApplied, Refused          raised *by a step* to say what its failure means
    └── RetryLater               a NotApplied that says when to try again
        └── WaitingFor           a RetryLater that says what must come from outside first

Two roots matter to a caller: ``WiringError`` never reaches production, ``RunError`` concerns one run. The step's own
exceptions and the database's pass through unchanged. Errors hold fields; the text says what happened, where, and what
to do, in that order.
"""

from docket.errors._author import BadJob as BadJob
from docket.errors._author import ConfigurationError as ConfigurationError
from docket.errors._author import DocketError as DocketError
from docket.errors._author import NoSerializer as NoSerializer
from docket.errors._author import Unstorable as Unstorable
from docket.errors._author import WiringError as WiringError
from docket.errors._by_steps import NotApplied as NotApplied
from docket.errors._by_steps import Refused as Refused
from docket.errors._by_steps import RetryLater as RetryLater
from docket.errors._by_steps import WaitingFor as WaitingFor
from docket.errors._details import Change as Change
from docket.errors._details import Problem as Problem
from docket.errors._details import shown as shown
from docket.errors._run import BadRunId as BadRunId
from docket.errors._run import BrokenTransaction as BrokenTransaction
from docket.errors._run import Busy as Busy
from docket.errors._run import DeadlineExceeded as DeadlineExceeded
from docket.errors._run import InDoubt as InDoubt
from docket.errors._run import InputsChanged as InputsChanged
from docket.errors._run import MissingInput as MissingInput
from docket.errors._run import NeedsForce as NeedsForce
from docket.errors._run import NewerCertificate as NewerCertificate
from docket.errors._run import NotCertified as NotCertified
from docket.errors._run import NotInDoubt as NotInDoubt
from docket.errors._run import NotYet as NotYet
from docket.errors._run import Purged as Purged
from docket.errors._run import RunError as RunError
from docket.errors._run import SchemaMissing as SchemaMissing
from docket.errors._run import StepTimeout as StepTimeout
from docket.errors._run import Undecodable as Undecodable
from docket.errors._run import UnexpectedInput as UnexpectedInput
from docket.errors._run import UnknownTarget as UnknownTarget
from docket.errors._run import WaitsForItself as WaitsForItself
from docket.errors._run import WrongResult as WrongResult

__all__ = [
    "BadJob",
    "BadRunId",
    "BrokenTransaction",
    "Busy",
    "Change",
    "ConfigurationError",
    "DeadlineExceeded",
    "DocketError",
    "InDoubt",
    "InputsChanged",
    "MissingInput",
    "NeedsForce",
    "NewerCertificate",
    "NoSerializer",
    "NotApplied",
    "NotCertified",
    "NotInDoubt",
    "NotYet",
    "Problem",
    "Purged",
    "Refused",
    "RetryLater",
    "RunError",
    "SchemaMissing",
    "StepTimeout",
    "Undecodable",
    "UnexpectedInput",
    "UnknownTarget",
    "Unstorable",
    "WaitingFor",
    "WaitsForItself",
    "WiringError",
    "WrongResult",
]
