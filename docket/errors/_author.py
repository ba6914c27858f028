"""What an author gets wrong: raised before anything runs. Part of the tree in `docket.errors`."""

from __future__ import annotations

from docket.errors._details import Problem


class DocketError(Exception):
    """The root of everything Docket raises itself."""


class WiringError(DocketError):
    """The steps do not fit together. Nothing has run.

    Attributes:
        problems: All of them, in the order of registration.
    """

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        self.problems = problems
        super().__init__(problems)

    def __str__(self) -> str:
        count = len(self.problems)
        lines = [f"the wiring does not close ({count} problem{'s' if count > 1 else ''})"]
        for number, problem in enumerate(self.problems, 1):
            first, *rest = str(problem).splitlines()
            lines += [f"  {number}. {first}", *(f"   {line}" for line in rest)]
        return "\n".join(lines)


class NoSerializer(WiringError):
    """A type whose results are to be kept cannot be turned into bytes. Raised while wiring, before anything runs.

    Attributes:
        type: The type, as the user wrote it.
        reason: What keeps it from being stored.
    """

    def __init__(self, type_: str, reason: str, where: str) -> None:
        self.type, self.reason = type_, reason
        fix = (
            "make it a protobuf message, a dataclass, a pydantic model or a msgspec.Struct, "
            "or pass a serializer for it: Serializers(MySerializer())"
        )
        super().__init__((Problem(f"{type_} cannot be stored: {reason}", (f"{type_}  {where}",), fix),))


class Unstorable(DocketError, ValueError):
    """A value cannot be kept, though its type can: it has no bytes, or would not come back the same. Nothing is stored.

    Attributes:
        type: The type of the value, as the user wrote it.
        reason: What is wrong with it, without the value itself.
    """

    def __init__(self, type_: str, reason: str, advice: str) -> None:
        self.type, self.reason = type_, reason
        super().__init__(f"this {type_} cannot be stored: {reason}; {advice}")


class ConfigurationError(DocketError):
    """Docket was constructed or used in a way that cannot work; the text says what to change."""


class BadJob(DocketError, ValueError):
    """What a queue carried is no job of Docket's. Nothing was run.

    Attributes:
        where: The queue's record.
    """

    def __init__(self, where: str, reason: str) -> None:
        self.where = where
        super().__init__(f"{where} cannot be worked on: {reason}; enqueue runs with Docket.enqueue, and delete this job")
