"""Encrypted results, and what may be seen of them."""

import json
from dataclasses import dataclass, replace

import pytest

from docket.errors import ConfigurationError, Undecodable
from docket.serializers import Encrypted, Serializers

KEYS = {"k1": bytes(range(32)), "k2": bytes(range(16))}


@dataclass
class Card:
    """A result nobody may read."""

    number: str
    holder: str = "Ada"


def _serializers(current: str = "k1", **options: object) -> Serializers:
    return Serializers(sealer=Encrypted(KEYS, current=current), **options)  # type: ignore[arg-type]


def test_a_sealed_row_shows_nothing_and_comes_back() -> None:
    """Bytes are encrypted, the key's id stands in the row, there is no projection, and the value comes back."""
    packed = _serializers().pack(Card, Card("4242"), run_id="r", key="k")

    assert packed.stored.serializer == "json+aesgcm:k1"
    assert b"4242" not in packed.stored.body
    assert packed.stored.view is None
    assert packed.plain == b'{"number":"4242","holder":"Ada"}'
    assert Card("4242") == _serializers().unpack(Card, packed.stored, run_id="r", key="k")


def test_equal_values_are_sealed_differently() -> None:
    """Each row has a nonce of its own, so equal results cannot be told."""
    one, other = (_serializers().pack(Card, Card("1"), run_id="r", key="k") for _ in range(2))

    assert one.plain == other.plain
    assert one.stored.body != other.stored.body


def test_none_is_sealed_too() -> None:
    """Absence is sealed like any other value."""
    packed = _serializers().pack(Card, None, run_id="r", key="k")

    assert packed.stored.serializer == "none+aesgcm:k1"
    assert _serializers().unpack(Card, packed.stored, run_id="r", key="k") is None


def test_old_rows_open_with_their_old_key() -> None:
    """After rotation new rows have the new key, and old ones open for as long as the old key is there."""
    old = _serializers("k1").pack(Card, Card("1"), run_id="r", key="k").stored
    new = _serializers("k2").pack(Card, Card("1"), run_id="r", key="k").stored

    assert new.serializer == "json+aesgcm:k2"
    assert Card("1") == _serializers("k2").unpack(Card, old, run_id="r", key="k")
    with pytest.raises(Undecodable, match="sealed with 'aesgcm:k1', and the keys here are k2"):
        Serializers(sealer=Encrypted({"k2": KEYS["k2"]}, current="k2")).unpack(Card, old, run_id="r", key="k")


def test_rows_from_before_the_encryption_are_read() -> None:
    """Switching encryption on does not orphan what was stored in the clear."""
    clear = Serializers().pack(Card, Card("1"), run_id="r", key="k").stored

    assert Card("1") == _serializers().unpack(Card, clear, run_id="r", key="k")


@pytest.mark.parametrize(("run_id", "key"), [("other", "k"), ("r", "other"), ("rk", ""), ("", "rk")])
def test_sealed_bytes_do_not_open_in_another_row(run_id: str, key: str) -> None:
    """The bytes of one run's result, copied into another row, are refused."""
    stored = _serializers().pack(Card, Card("1"), run_id="r", key="k").stored

    with pytest.raises(Undecodable, match="the bytes were changed or moved from another row"):
        _serializers().unpack(Card, stored, run_id=run_id, key=key)


def test_a_sealed_row_cannot_change_its_type_or_serializer() -> None:
    """Type and serializer are authenticated as well."""
    stored = _serializers().pack(Card, Card("1"), run_id="r", key="k").stored

    for changed in (replace(stored, type="other"), replace(stored, serializer="none+aesgcm:k1")):
        with pytest.raises(Undecodable, match="the bytes were changed or moved"):
            _serializers().unpack(Card, changed, run_id="r", key="k")


@pytest.mark.parametrize("position", [0, 11, 12, -1])
def test_a_flipped_bit_is_noticed(position: int) -> None:
    """Whatever bit is changed, the row does not open."""
    stored = _serializers().pack(Card, Card("1"), run_id="r", key="k").stored
    changed = bytearray(stored.body)
    changed[position] ^= 1

    with pytest.raises(Undecodable, match="the bytes were changed"):
        _serializers().unpack(Card, replace(stored, body=bytes(changed)), run_id="r", key="k")


@pytest.mark.parametrize("body", [b"", b"short", bytes(12)])
def test_truncated_bytes_are_noticed(body: bytes) -> None:
    """A row cut short does not open."""
    stored = _serializers().pack(Card, Card("1"), run_id="r", key="k").stored

    with pytest.raises(Undecodable, match="the bytes were changed"):
        _serializers().unpack(Card, replace(stored, body=body), run_id="r", key="k")


def test_without_a_sealer_a_sealed_row_says_so() -> None:
    """A worker that was deployed without keys says what is missing."""
    stored = _serializers().pack(Card, Card("1"), run_id="r", key="k").stored

    with pytest.raises(Undecodable, match=r"no sealer is configured: Serializers\(sealer=\.\.\.\)"):
        Serializers().unpack(Card, stored, run_id="r", key="k")


@pytest.mark.parametrize(
    ("keys", "current", "reason"),
    [
        ({"k": bytes(31)}, "k", "the key 'k' has 31 bytes; AES takes 16, 24 or 32"),
        ({"k+": bytes(32)}, "k+", "the key id 'k\\+' is not"),
        ({"": bytes(32)}, "", "the key id '' is not"),
        ({"a": bytes(32)}, "b", "the current key 'b' is not among the keys: a"),
        ({}, "b", "the current key 'b' is not among the keys: none"),
    ],
)
def test_keys_are_checked_at_construction(keys: dict[str, bytes], current: str, reason: str) -> None:
    """A wrong key is found when the application starts, not at the first result."""
    with pytest.raises(ConfigurationError, match=reason):
        Encrypted(keys, current=current)


def test_keys_are_not_shown() -> None:
    """The representation names ids only."""
    assert repr(Encrypted(KEYS, current="k1")) == "Encrypted(keys=['k1', 'k2'], current='k1')"


def _mask(key: str, text: str) -> str | None:
    shown = json.loads(text)
    shown["number"] = "***"
    return json.dumps(shown)


def test_a_hook_decides_what_is_seen_of_a_result() -> None:
    """The projection is what the hook returns; the result itself is untouched, sealed or not."""
    for serializers in (Serializers(redact=_mask), _serializers(redact=_mask)):
        packed = serializers.pack(Card, Card("4242"), run_id="r", key="k")

        assert packed.stored.view == '{"number":"***","holder":"Ada"}'
        assert Card("4242") == serializers.unpack(Card, packed.stored, run_id="r", key="k")


@pytest.mark.parametrize("shown", [None, "no JSON", '"\\u0000"', '"\\ud800"', "NaN"])
def test_a_hook_cannot_spoil_a_result(shown: str | None) -> None:
    """Whatever the hook returns that PostgreSQL would refuse is left out, and the result is stored."""
    packed = Serializers(redact=lambda key, text: shown).pack(Card, Card("1"), run_id="r", key="k")

    assert packed.stored.view is None
    assert Card("1") == packed.value
