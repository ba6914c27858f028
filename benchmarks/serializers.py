"""What it costs to make a result ready for its row, against protobuf's own JSON.

Run it with ``python -m benchmarks.serializers``. Times are microseconds of one call: the best of seven rounds.
"""

from __future__ import annotations

import timeit
from collections.abc import Callable
from dataclasses import dataclass

from google.protobuf import json_format, struct_pb2
from google.protobuf.message import Message

from docket.serializers import Encrypted, Json, Protobuf, Serializers
from tests.messages_pb2 import Scalars, Shapes


@dataclass
class Charge:
    """A small result, as a dataclass."""

    id: str
    amount_cents: int
    currency: str
    paid: bool
    note: str | None = None


def best(call: Callable[[], object]) -> float:
    """Return the microseconds of one *call*, the best of seven rounds of about 50 ms."""
    timer = timeit.Timer(call)
    number = max(1, int(0.05 / max(timer.timeit(3) / 3, 1e-9)))
    return min(timer.repeat(7, number)) / number * 1e6


def measure(message: Message, protobuf: Protobuf) -> None:
    """Print what the parts cost for *message*."""
    body = protobuf.dumps(message)
    ours = best(lambda: protobuf.view(message))
    theirs = best(lambda: json_format.MessageToJson(message, preserving_proto_field_name=True))
    print(f"  view {ours:.1f}, json_format.MessageToJson {theirs:.1f}: {theirs / ours:.1f} times")
    print(f"  dumps {best(lambda: protobuf.dumps(message)):.1f}")
    print(f"  loads {best(lambda: protobuf.loads(type(message), body)):.1f}")


def pack(serializers: Serializers, value: object) -> float:
    """Return what it costs to make *value* ready for its row, projection and reading back included."""
    return best(lambda: serializers.pack(type(value), value, run_id="r", key="k"))


def main() -> None:
    """Print one line per measurement."""
    small = Scalars(an_int64=4_200, a_string="EUR", a_bool=True, a_double=0.5, color="COLOR_RED")
    medium = Shapes(
        inner=Shapes.Inner(name="n", number=1),
        inners=[Shapes.Inner(name=f"item {number}", number=number) for number in range(40)],
        counts={f"key {number}": number for number in range(10)},
        text="x",
    )
    protobuf, json, plain = Protobuf(), Json(), Serializers()
    sealed = Serializers(sealer=Encrypted({"k": bytes(32)}, current="k"))
    charge = Charge("ch_1", 4_200, "EUR", paid=True)
    for name, message in (("small", small), ("medium", medium)):
        print(f"protobuf, {name}: {len(protobuf.dumps(message))} bytes")
        measure(message, protobuf)
        print(f"  pack {pack(plain, message):.1f}, with encryption {pack(sealed, message):.1f}")
    print(f"dataclass: {len(json.dumps(charge))} bytes")
    print(f"  dumps {best(lambda: json.dumps(charge)):.1f}, view {best(lambda: json.view(charge)):.1f}")
    body = json.dumps(charge)
    print(f"  loads {best(lambda: json.loads(Charge, body)):.1f}")
    print(f"  pack {pack(plain, charge):.1f}, with encryption {pack(sealed, charge):.1f}")
    struct = struct_pb2.Struct()
    struct.update({"a": [1, "two", None]})
    print(f"google.protobuf.Struct: view {best(lambda: protobuf.view(struct)):.1f}")


if __name__ == "__main__":
    main()
