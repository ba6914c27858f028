"""Types for steps, one per role."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Order:
    """What the caller supplies."""

    id: int = 1


@dataclass(frozen=True)
class Charge:
    """What a step gives."""

    id: str = "ch-1"


@dataclass(frozen=True)
class Shipment:
    """What another gives."""

    id: str = "trk-1"
