"""What is kept of an error's message."""

import pytest

from docket.serializers import error_text


@pytest.mark.parametrize(
    ("message", "kept"),
    [
        ("no route to postgresql://app:hunter2@db/shop", "no route to postgresql://app:***@db/shop"),
        ("redis://:p@ss:w0rd@cache:6379/0 is down", "redis://:***@cache:6379/0 is down"),
        ("host=db user=app password=hunter2 dbname=x", "host=db user=app password=*** dbname=x"),
        ("password='a b' sslmode=off", "password=*** sslmode=off"),
        ('{"api_key": "sk_live_1", "amount": 3}', '{"api_key": ***, "amount": 3}'),
        ("Authorization: Bearer eyJhbGciOi.J9-x_y", "Authorization: Bearer ***"),
        ("authorization: Basic dXNlcjpwYXNz", "authorization: Basic ***"),
        ("AWS_SECRET_ACCESS_KEY=abc/def", "AWS_SECRET_ACCESS_KEY=***"),
        ("https://api.example/v1?access_token=abc&page=2", "https://api.example/v1?access_token=***&page=2"),
        ("token: abc123", "token: ***"),
        ("token=123456", "token=***"),
        ("settle('order-1', Charge, value, token=12)", "settle('order-1', Charge, value, token=12)"),
        ("a bearer of bad news", "a bearer of bad news"),
        ("https://example.com/path: not found", "https://example.com/path: not found"),
        ("card declined", "card declined"),
    ],
)
def test_known_kinds_of_secrets_are_hidden(message: str, kept: str) -> None:
    """Passwords in URLs and settings, bearer tokens and members named like a secret become asterisks."""
    assert kept == error_text(ValueError(message), "k")


def test_text_that_postgres_refuses_is_mended() -> None:
    """U+0000 is removed and half surrogate pairs are replaced, so that an error can always be journalled."""
    assert error_text(ValueError("a\0b\ud800"), "k") == "ab?"


def test_long_messages_are_cut_at_2_kb_of_whole_characters() -> None:
    """At most 2,048 bytes are kept, and no character is cut in half."""
    text = error_text(ValueError("x" + "é" * 10**6), "k")

    assert len(text.encode()) == 2_047
    assert text.endswith("é")


def test_a_hook_has_the_last_word() -> None:
    """The hook sees the key and the cleaned text; None keeps nothing."""
    seen: list[tuple[str, str]] = []

    def hook(key: str, text: str) -> str | None:
        seen.append((key, text))
        return None

    assert error_text(ValueError("password=x"), "charge", hook) == ""
    assert seen == [("charge", "password=***")]


def test_a_message_that_cannot_be_made_is_replaced() -> None:
    """An exception whose __str__ fails still leaves a text."""

    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert error_text(Mute(), "k") == "<Mute has no message>"


def test_a_hook_that_raises_shows_nothing() -> None:
    """The failure that is being stored is not replaced by another."""

    def broken(key: str, text: str) -> str | None:
        raise KeyError(key)

    assert error_text(ValueError("no points for bob"), "bank.Score", broken) == ""
