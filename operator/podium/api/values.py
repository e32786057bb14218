"""Small value types shared by the resources, and the one way to read a resource.

Reading never guesses: a value that does not fit raises `ParseError`, whose message
names the field and says what would fit.
"""

import re
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, TypeVar

import msgspec

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")

T = TypeVar("T")


class ParseError(ValueError):
    """A resource does not have the form that its CRD promises; the message names the field."""


class Resource(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Base of all typed values that stand in YAML: frozen, camelCase outside, snake_case here."""


class Duration:
    """A length of time as people write it in Kubernetes: `90s`, `1h30m`, `3d`."""

    # A plain class: msgspec hands only types that it does not know to decode_hook.
    __slots__ = ("seconds",)

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Duration) and other.seconds == self.seconds

    def __hash__(self) -> int:
        return hash(self.seconds)

    def __repr__(self) -> str:
        return f"Duration({self})"

    @classmethod
    def parse(cls, text: str) -> "Duration":
        """`1h30m` -> 5400 s. Raises ValueError for anything else (no sign, no bare number)."""
        parts = _DURATION.findall(text)
        if not parts or "".join(n + u for n, u in parts) != text:
            raise ValueError(f"{text!r} is not a duration such as 90s, 15m, 1h30m or 3d")
        return cls(sum(float(number) * _UNITS[unit] for number, unit in parts))

    @property
    def delta(self) -> timedelta:
        return timedelta(seconds=self.seconds)

    def __str__(self) -> str:
        rest, text = self.seconds, ""
        for unit in ("d", "h", "m"):
            count, rest = divmod(rest, _UNITS[unit])
            text += f"{int(count)}{unit}" if count else ""
        return text + (f"{rest:g}s" if rest or not text else "")


def decode_hook(kind: type, value: object) -> object:
    """Reads `Duration` and `Decimal`, which msgspec does not know in Kubernetes' notation."""
    if kind is Duration and isinstance(value, str):
        return Duration.parse(value)
    if kind is Decimal and isinstance(value, str):
        try:
            number = Decimal(value)
        except InvalidOperation:
            number = Decimal("NaN")
        if not number.is_finite():
            raise ValueError(f'{value!r} is not a decimal number such as "0.95"')
        return number
    raise ValueError(f"expected text in quotes, got {value!r}")


def encode_hook(value: object) -> object:
    if isinstance(value, Duration | Decimal):
        return str(value)
    raise TypeError(f"no way to write {type(value).__name__}")


def read(kind: type[T], source: object, what: str) -> T:
    """`source` (what JSON gives) as `kind`. Raises ParseError: `what`, the field, the trouble."""
    try:
        return msgspec.convert(source, kind, dec_hook=decode_hook, strict=True)
    except msgspec.ValidationError as error:
        text = str(error)
        message, _, path = text.partition(" - at `$")
        field = path.rstrip("`").lstrip(".") or "the object"
        raise ParseError(f"{what}: {field}: {message}") from error


def write(value: object) -> Any:
    """What JSON takes, with camelCase names and without fields that have their default."""
    return msgspec.to_builtins(value, enc_hook=encode_hook)
