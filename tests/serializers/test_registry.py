"""The registry: whose is a type, and what happens between a value and a row."""

import logging
import pickle
import subprocess
import sys
from dataclasses import dataclass, replace
from typing import Any, NewType

import msgspec
import pytest

from docket._core.types import place
from docket.errors import ConfigurationError, NoSerializer, Undecodable, Unstorable
from docket.serializers import Schema, Serializer, Serializers
from tests.serializers.messages import Line, Money


@dataclass
class Charge:
    """A result."""

    cents: int
    note: str = ""


@dataclass
class Receipt:
    """What Charge is called in the next version."""

    cents: int
    note: str = ""


KEY = f"{__name__}.Charge"


class MessagePack:
    """A serializer of a user's own: everything but text, with msgspec's MessagePack."""

    name = "msgpack"

    def handles(self, type_: object, /) -> bool:
        """Tell whether it is a dataclass of this module."""
        return type_ is Charge or type_ is Receipt

    def dumps(self, value: object, /) -> bytes:
        """Write it."""
        return msgspec.msgpack.encode(value)

    def loads(self, type_: object, body: bytes, /) -> object:
        """Read it."""
        return msgspec.msgpack.decode(body, type=type_)

    def view(self, value: object, /) -> str | None:
        """Project it."""
        return msgspec.json.encode(value).decode()

    def schema(self, type_: object, /) -> Schema | None:
        """Know no columns."""
        return None


def test_protobuf_comes_first_and_json_second() -> None:
    """Without registrations, messages are protobuf and everything else is JSON."""
    serializers = Serializers()

    assert serializers.of(Money).name == "protobuf"
    assert serializers.of(Charge).name == "json"
    assert serializers.of(Charge | None).name == "json"


def test_own_serializers_come_first() -> None:
    """A registered serializer wins over the built-in ones, in the order given."""
    own: Serializer = MessagePack()
    serializers = Serializers(own)
    packed = serializers.pack(Charge, Charge(3), run_id="r", key=KEY)

    assert own is serializers.of(Charge)
    assert own is serializers.named("msgpack")
    assert serializers.of(Money).name == "protobuf"
    assert (
        packed.stored.serializer,
        packed.stored.body,
        packed.stored.view,
    ) == ("msgpack", b"\x82\xa5cents\x03\xa4note\xa0", '{"cents":3,"note":""}')
    assert Charge(3) == serializers.unpack(Charge, packed.stored, run_id="r", key=KEY)


def test_old_rows_find_the_serializer_that_wrote_them() -> None:
    """A row written as JSON is still read as JSON after another serializer was registered for its type."""
    stored = Serializers().pack(Charge, Charge(3), run_id="r", key=KEY).stored

    assert Charge(3) == Serializers(MessagePack()).unpack(Charge, stored, run_id="r", key=KEY)


def test_an_unknown_serializer_is_named() -> None:
    """A row whose serializer is not registered any more is undecodable, and the error says which are there."""
    stored = Serializers(MessagePack()).pack(Charge, Charge(3), run_id="r", key=KEY).stored

    with pytest.raises(Undecodable, match="no serializer is called 'msgpack'; there are protobuf, json"):
        Serializers().unpack(Charge, stored, run_id="r", key=KEY)


class Named(MessagePack):
    """A serializer with a name of one's choice."""

    def __init__(self, name: str) -> None:
        self.name = name


@pytest.mark.parametrize("name", ["", "none", "a+b", "a b", "é", "a\n"])
def test_names_that_cannot_be_stored_are_refused(name: str) -> None:
    """A name goes into every row, so what would be ambiguous there is refused at construction."""
    with pytest.raises(ConfigurationError, match="a serializer cannot be called"):
        Serializers(Named(name))


def test_two_serializers_of_one_name_are_refused() -> None:
    """Rows could not tell them apart."""
    with pytest.raises(ConfigurationError, match="two serializers are called 'json': Named and Json"):
        Serializers(Named("json"))


class Plain:
    """A class without fields."""


def test_a_type_without_serializer_is_a_wiring_error() -> None:
    """The error names the type, says where it is written, and how to register a serializer."""
    with pytest.raises(NoSerializer) as caught:
        Serializers().of(Plain)

    assert (
        "the wiring does not close (1 problem)\n"
        "  1. Plain cannot be stored: Plain has no JSON that comes back the same\n"
        f"     Plain  {place(Plain)}\n"
        "     fix: make it a protobuf message, a dataclass, a pydantic model or a msgspec.Struct, or pass a serializer "
        "for it: Serializers(MySerializer())"
    ) == str(caught.value)


@pytest.mark.parametrize("type_", [Charge, Charge | None, Money])
def test_none_is_stored_as_such(type_: object) -> None:
    """Absence is a value: it is certified without bytes or projection, and comes back as None."""
    packed = Serializers().pack(type_, None, run_id="r", key=KEY)

    assert (
        packed.stored.serializer,
        packed.stored.body,
        packed.stored.view,
        packed.value,
    ) == ("none", b"", None, None)
    assert Serializers().unpack(type_, packed.stored, run_id="r", key=KEY) is None


def test_the_packed_value_is_what_will_be_read_back() -> None:
    """Every attempt sees what was stored, not the object that the step happened to return."""
    charge = Charge(3)
    packed = Serializers().pack(Charge, charge, run_id="r", key=KEY)

    assert charge == packed.value
    assert charge is not packed.value


class Forgetful(MessagePack):
    """A serializer that loses the value."""

    def dumps(self, value: object, /) -> bytes:
        """Write something else."""
        return msgspec.msgpack.encode(Charge(0))


class Broken(MessagePack):
    """A serializer that cannot read what it wrote."""

    def loads(self, type_: object, body: bytes, /) -> object:
        """Refuse everything."""
        raise KeyError("lost")


@pytest.mark.parametrize(
    ("serializer", "reason"),
    [
        (Forgetful(), "this Charge cannot be stored: it would be read back as another value; return a Charge"),
        (Broken(), "this Charge cannot be stored: it could not be read back"),
    ],
)
def test_what_does_not_come_back_is_not_stored(serializer: Serializer, reason: str) -> None:
    """A value is read back before it is stored, whoever wrote it."""
    with pytest.raises(Unstorable, match=reason):
        Serializers(serializer).pack(Charge, Charge(3), run_id="r", key=KEY)


def test_a_projection_that_fails_costs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """A result is stored without projection when none can be made; the log names the row and not the value."""

    class Blind(MessagePack):
        def view(self, value: object, /) -> str | None:
            raise RuntimeError("secret value")

    with caplog.at_level(logging.WARNING, "docket.serializers"):
        packed = Serializers(Blind()).pack(Charge, Charge(3), run_id="r", key=KEY)

    assert packed.stored.view is None
    assert [f"certified {KEY} without a projection (RuntimeError)"] == caplog.messages


def test_large_bodies_have_no_projection() -> None:
    """Above 64 kB the projection is left out, since making it would block the event loop."""
    small = Serializers().pack(Charge, Charge(1, "x" * 65_000), run_id="r", key=KEY)
    large = Serializers().pack(Charge, Charge(1, "x" * 65_536), run_id="r", key=KEY)

    assert small.stored.view is not None
    assert large.stored.view is None


def test_a_pickle_in_the_column_is_never_run() -> None:
    """Bytes of a pickle are undecodable under every serializer, and nothing in them runs."""
    serializers, body = Serializers(), pickle.dumps(Bomb())
    charge = serializers.pack(Charge, Charge(1), run_id="r", key="k").stored
    money = serializers.pack(Money, Money(), run_id="r", key="k").stored

    for type_, stored in ((Charge, charge), (Money, money), (Charge, replace(charge, serializer="pickle"))):
        with pytest.raises(Undecodable, match="cannot be read"):
            serializers.unpack(type_, replace(stored, body=body), run_id="r", key="k")

    assert not Bomb.went_off


class Bomb:
    """An object whose pickle runs code when it is loaded."""

    went_off = False

    def __reduce__(self) -> tuple[Any, ...]:
        return Bomb.go_off, ()

    @staticmethod
    def go_off() -> None:
        """Notice that code ran."""
        Bomb.went_off = True


def test_bytes_of_another_type_are_refused() -> None:
    """Wire bytes carry no type, so the row's is compared: a Line is not read as Money although it would parse."""
    stored = Serializers().pack(Line, Line(sku="a"), run_id="r", key="k").stored

    with pytest.raises(Undecodable, match=r"it is a docket_test\.Line, and a docket_test\.Money is asked for"):
        Serializers().unpack(Money, stored, run_id="r", key="k")


def test_an_undecodable_row_says_where_it_is_and_what_to_do() -> None:
    """The error names run, key, serializer and type, and advises."""
    stored = replace(Serializers().pack(Charge, Charge(1), run_id="r", key=KEY).stored, body=b'{"cents":"1"}')

    with pytest.raises(Undecodable) as caught:
        Serializers().unpack(Charge, stored, run_id="order-7", key="charge")

    assert (
        f"run 'order-7': the certified charge (written by json as {KEY}) cannot be read: "
        "cents: expected a whole number, found text; restore a type that reads it, or register an upcast"
    ) == str(caught.value)
    assert (
        caught.value.run_id,
        caught.value.key,
        caught.value.serializer,
        caught.value.type,
    ) == ("order-7", "charge", "json", KEY)


def test_a_renamed_type_is_read_under_its_new_name() -> None:
    """An upcast that is a type says what the old name is called now."""
    stored = Serializers().pack(Charge, Charge(3, "n"), run_id="r", key=KEY).stored

    assert Receipt(3, "n") == Serializers(upcast={KEY: Receipt}).unpack(Receipt, stored, run_id="r", key=KEY)


def test_a_changed_type_is_read_by_a_function() -> None:
    """An upcast that is a function turns the old bytes into a value of today."""
    stored = Serializers().pack(Money, Money(amount_cents=3), run_id="r", key=KEY).stored

    def convert(body: bytes) -> Charge:
        return Charge(Money.FromString(body).amount_cents)

    assert Charge(3) == Serializers(upcast={"docket_test.Money": convert}).unpack(Charge, stored, run_id="r", key=KEY)


def test_an_upcast_of_the_same_name_reads_only_what_the_type_cannot() -> None:
    """A type that changed its members under one name: new rows are read as they are, old ones by the upcast."""

    def read_old(body: bytes) -> Charge:
        return Charge(-1)

    serializers = Serializers(upcast={KEY: read_old})
    new = serializers.pack(Charge, Charge(3), run_id="r", key=KEY).stored

    assert Charge(3) == serializers.unpack(Charge, new, run_id="r", key=KEY)
    assert Charge(-1) == serializers.unpack(Charge, replace(new, body=b'{"amount":3}'), run_id="r", key=KEY)


def test_an_upcast_to_another_type_is_refused() -> None:
    """A row is never handed out as a type that was not asked for."""
    stored = Serializers().pack(Charge, Charge(3), run_id="r", key=KEY).stored

    with pytest.raises(Undecodable, match=r"the upcast gives a .*Receipt, and a docket_test\.Money is asked for"):
        Serializers(upcast={KEY: Receipt}).unpack(Money, stored, run_id="r", key=KEY)


def test_a_failing_upcast_is_undecodable() -> None:
    """What an upcast raises ends as Undecodable, with the cause."""
    stored = Serializers().pack(Money, Money(), run_id="r", key=KEY).stored

    def fail(body: bytes) -> Charge:
        raise LookupError("no rate")

    with pytest.raises(Undecodable, match="cannot be read: no rate") as caught:
        Serializers(upcast={"docket_test.Money": fail}).unpack(Charge, stored, run_id="r", key=KEY)

    assert isinstance(caught.value.__cause__, LookupError)


@pytest.mark.parametrize(("answer", "given"), [(None, "None"), ({"cents": 3}, "a dict"), (Charge, "a type")])
def test_what_an_upcast_gives_is_looked_at(answer: object, given: str) -> None:
    """One that forgets to return, or makes something else, is undecodable: no step is handed what it does not expect."""
    stored = Serializers().pack(Money, Money(amount_cents=3), run_id="r", key=KEY).stored

    def convert(body: bytes) -> object:
        return answer

    with pytest.raises(Undecodable, match=rf"the upcast gives {given}, and a .*Charge is asked for"):
        Serializers(upcast={"docket_test.Money": convert}).unpack(Charge, stored, run_id="r", key=KEY, none=False)


def test_what_a_serializer_gives_is_looked_at() -> None:
    """One of the application's own may err as well."""

    class Careless(MessagePack):
        def loads(self, type_: object, body: bytes, /) -> object:
            return msgspec.msgpack.decode(body)

    stored = Serializers(MessagePack()).pack(Charge, Charge(3), run_id="r", key=KEY).stored

    with pytest.raises(Undecodable, match="the serializer 'msgpack' gives a dict"):
        Serializers(Careless()).unpack(Charge, stored, run_id="r", key=KEY)


@pytest.mark.parametrize("text", ["NaN", '{"a":-Infinity}', '"\\ud800"', '"\\u0000"', "1e400000", "{", "[" * 300 + "]" * 300])
def test_a_projection_that_the_database_refuses_is_left_out(text: str) -> None:
    """The application's own serializer may give text that is no JSON there: the result is stored without it."""

    class Careless(MessagePack):
        def view(self, value: object, /) -> str | None:
            return text

    assert Serializers(Careless()).pack(Charge, Charge(3), run_id="r", key=KEY).stored.view is None


Fee = NewType("Fee", Receipt)


def test_a_new_type_as_upcast_is_a_new_name() -> None:
    """It is callable, like a class, and is not taken for a function of the bytes either."""
    stored = Serializers().pack(Charge, Charge(3, "n"), run_id="r", key=KEY).stored

    assert Receipt(3, "n") == Serializers(upcast={KEY: Fee}).unpack(Fee, stored, run_id="r", key=KEY)


def test_none_is_read_where_it_may_be() -> None:
    """A row of a time when there could be none is not given to who must have one."""
    stored = Serializers().pack(Charge, None, run_id="r", key=KEY).stored

    assert Serializers().unpack(Charge, stored, run_id="r", key=KEY) is None
    with pytest.raises(Undecodable, match=r"it is None, and a .*Charge is asked for"):
        Serializers().unpack(Charge, stored, run_id="r", key=KEY, none=False)


def test_importing_loads_no_serialization_library() -> None:
    """Neither protobuf, pydantic, msgspec nor cryptography is imported before a type of theirs is met."""
    code = (
        "import sys, docket.serializers as s; s.Serializers(); s.Encrypted({'a': bytes(32)}, current='a');"
        "print(sorted({'google.protobuf', 'pydantic', 'msgspec', 'cryptography'} & set(sys.modules)))"
    )

    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
