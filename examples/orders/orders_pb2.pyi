import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class OrderRequest(_message.Message):
    __slots__ = ("order_id", "customer", "sku", "quantity", "amount_cents")
    ORDER_ID_FIELD_NUMBER: _ClassVar[int]
    CUSTOMER_FIELD_NUMBER: _ClassVar[int]
    SKU_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_CENTS_FIELD_NUMBER: _ClassVar[int]
    order_id: str
    customer: str
    sku: str
    quantity: int
    amount_cents: int
    def __init__(self, order_id: _Optional[str] = ..., customer: _Optional[str] = ..., sku: _Optional[str] = ..., quantity: _Optional[int] = ..., amount_cents: _Optional[int] = ...) -> None: ...

class ValidOrder(_message.Message):
    __slots__ = ("order_id", "customer", "sku", "quantity", "amount_cents", "currency")
    ORDER_ID_FIELD_NUMBER: _ClassVar[int]
    CUSTOMER_FIELD_NUMBER: _ClassVar[int]
    SKU_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_CENTS_FIELD_NUMBER: _ClassVar[int]
    CURRENCY_FIELD_NUMBER: _ClassVar[int]
    order_id: str
    customer: str
    sku: str
    quantity: int
    amount_cents: int
    currency: str
    def __init__(self, order_id: _Optional[str] = ..., customer: _Optional[str] = ..., sku: _Optional[str] = ..., quantity: _Optional[int] = ..., amount_cents: _Optional[int] = ..., currency: _Optional[str] = ...) -> None: ...

class ChargeResult(_message.Message):
    __slots__ = ("charge_id", "order_id", "amount_cents", "currency", "charged_at")
    CHARGE_ID_FIELD_NUMBER: _ClassVar[int]
    ORDER_ID_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_CENTS_FIELD_NUMBER: _ClassVar[int]
    CURRENCY_FIELD_NUMBER: _ClassVar[int]
    CHARGED_AT_FIELD_NUMBER: _ClassVar[int]
    charge_id: str
    order_id: str
    amount_cents: int
    currency: str
    charged_at: _timestamp_pb2.Timestamp
    def __init__(self, charge_id: _Optional[str] = ..., order_id: _Optional[str] = ..., amount_cents: _Optional[int] = ..., currency: _Optional[str] = ..., charged_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Reservation(_message.Message):
    __slots__ = ("reservation_id", "sku", "quantity", "warehouse")
    RESERVATION_ID_FIELD_NUMBER: _ClassVar[int]
    SKU_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_FIELD_NUMBER: _ClassVar[int]
    WAREHOUSE_FIELD_NUMBER: _ClassVar[int]
    reservation_id: str
    sku: str
    quantity: int
    warehouse: str
    def __init__(self, reservation_id: _Optional[str] = ..., sku: _Optional[str] = ..., quantity: _Optional[int] = ..., warehouse: _Optional[str] = ...) -> None: ...

class Shipment(_message.Message):
    __slots__ = ("tracking_number", "order_id", "charge_id", "reservation_id", "carrier")
    TRACKING_NUMBER_FIELD_NUMBER: _ClassVar[int]
    ORDER_ID_FIELD_NUMBER: _ClassVar[int]
    CHARGE_ID_FIELD_NUMBER: _ClassVar[int]
    RESERVATION_ID_FIELD_NUMBER: _ClassVar[int]
    CARRIER_FIELD_NUMBER: _ClassVar[int]
    tracking_number: str
    order_id: str
    charge_id: str
    reservation_id: str
    carrier: str
    def __init__(self, tracking_number: _Optional[str] = ..., order_id: _Optional[str] = ..., charge_id: _Optional[str] = ..., reservation_id: _Optional[str] = ..., carrier: _Optional[str] = ...) -> None: ...
