"""What counts as text that jsonb takes is what PostgreSQL takes."""

import json
from typing import Any

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from docket.serializers import Serializers
from docket.serializers._json_text import encode, fit_for_jsonb
from tests.database import connected
from tests.serializers.test_registry import Charge, MessagePack

FIT = [
    "{}", "null", '"text"', " [1, 2.5e3] ", '{"a": "\\\\u0000"}', '{"a": "\\\\\\\\u0000"}', '{"a": "\\ud83d\\ude00"}',
    '{"ü": "🎈"}', "1e300", "-1.5E-300", "9" * 900, "[" * 200 + "]" * 200, '{"a": 1, "a": 2}',
]  # fmt: skip
UNFIT = [
    "", "{", "NaN", "[Infinity]", '{"a": "\\u0000"}', '{"a": "\\\\\\u0000"}', '{"\\u0000": 1}', '"\\ud800"', '"\\ude00\\ud83d"',
    '"\ud800"', '"\x00"', '"\n"', "'a'", "[1,]", "1e200000", "1e-20000", "0." + "0" * 17_000 + "1", "[" * 100_000,
]  # fmt: skip


async def _takes(connection: Any, text: str) -> bool:
    try:
        await connection.execute("SELECT $1::text::jsonb", text)
    except (asyncpg.PostgresError, asyncpg.DataError):
        return False
    return True


async def test_what_is_fit_is_taken_and_what_is_not_is_refused(dsn: str) -> None:
    """By the same words as PostgreSQL's, one text for each rule."""
    async with connected(dsn) as connection:
        taken = {text: await _takes(connection, text) for text in [*FIT, *UNFIT]}

    assert taken == dict.fromkeys(FIT, True) | dict.fromkeys(UNFIT, False)
    assert {text: fit_for_jsonb(text) for text in taken} == taken


def test_what_is_too_deep_to_read_is_not_fit() -> None:
    """PostgreSQL would take it; here the bound on the depth of all JSON holds."""
    assert not fit_for_jsonb("[" * 201 + "]" * 201)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(JSON)
def test_what_is_written_here_needs_no_second_look(value: Any) -> None:
    """The quick answer for text that `encode` wrote is the thorough one; so it is for the same text with escapes."""
    written = encode(value)

    assert fit_for_jsonb(written, ours=True) == fit_for_jsonb(written)
    assert fit_for_jsonb(json.dumps(value)) == fit_for_jsonb(written)


@pytest.mark.parametrize("text", [*FIT, *UNFIT])
def test_a_projection_of_another_serializer_is_kept_if_it_is_fit(text: str, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever it writes for people, the result is stored; the log says that nobody can look at it."""

    class Writing(MessagePack):
        def view(self, value: object, /) -> str | None:
            return text

    packed = Serializers(Writing()).pack(Charge, Charge(3), run_id="r", key="shop.Charge")

    assert packed.stored.view == (text if text in FIT else None)
    assert len(caplog.messages) == (text in UNFIT)
