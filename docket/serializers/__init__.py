"""Values into bytes and back: protobuf first, JSON for typed Python data, anything else by registering a serializer."""

from docket.serializers._json import Json
from docket.serializers._protobuf import Protobuf
from docket.serializers._protocol import Serializer
from docket.serializers._redact import Redact, error_text
from docket.serializers._registry import Packed, Serializers, Upcast
from docket.serializers._same import same
from docket.serializers._schema import Case, Child, Column, Schema, SqlType
from docket.serializers._sealing import Encrypted, Sealer

__all__ = [
    "Case",
    "Child",
    "Column",
    "Encrypted",
    "Json",
    "Packed",
    "Protobuf",
    "Redact",
    "Schema",
    "Sealer",
    "Serializer",
    "Serializers",
    "SqlType",
    "Upcast",
    "error_text",
    "same",
]
