"""Records in protocol-buffer form, as far as TensorFlow's checkpoints use it.

A record is a run of fields: a varint of (number << 3 | kind), then the value: kind 0 a varint,
1 eight bytes, 2 a length and as many bytes, 5 four bytes. A varint is an integer in groups of seven
bits, lowest first; a set eighth bit says that more follow. Records do not say what their fields
mean: who reads one knows each field's kind, and a field of another kind is damage.

Source: protobuf.dev, "Encoding".
"""

from __future__ import annotations

from collections import defaultdict

from tinygrad_llm.errors import CheckpointError

_VARINT, _EIGHT_BYTES, _SIZED, _FOUR_BYTES = 0, 1, 2, 5
_VARINT_BYTES = 10  # enough for 64 bits
_MAX_BYTES = 1 << 16  # of a record: a variable's has 30


def damaged(source: str, why: str) -> CheckpointError:
    """The error for a file whose content contradicts itself."""
    return CheckpointError(
        f"{source}: is damaged or only partly downloaded ({why}). Fetch it again."
    )


class Record:
    """The fields of a record, asked for by number and kind; an absent field is 0 or empty.

    Args:
        data: its bytes.
        source: the file's name, for messages.

    Raises:
        CheckpointError: the record is cut off, too long or of an unknown form; also when a field
            is asked for that is of another kind.
    """

    def __init__(self, data: bytes, source: str) -> None:
        self._source = source
        self._fields: dict[int, list[tuple[int, int | bytes]]] = defaultdict(list)
        if len(data) > _MAX_BYTES:
            raise damaged(source, f"a record of the index has {len(data)} bytes")
        position = 0
        try:
            while position < len(data):
                position = self._read_field(data, position)
        except ValueError as error:
            raise damaged(source, f"a record of the index: {error}") from error

    def number(self, field: int) -> int:
        """A varint, the last one where there are several."""
        return ([0] + [v for v in self._values(field, _VARINT) if isinstance(v, int)])[-1]

    def content(self, field: int) -> bytes:
        """Bytes that stand behind their length, the last ones where there are several."""
        return (self.contents(field) or [b""])[-1]

    def contents(self, field: int) -> list[bytes]:
        """The bytes of a repeated field."""
        return [v for v in self._values(field, _SIZED) if isinstance(v, bytes)]

    def four_bytes(self, field: int) -> int:
        """Four bytes as an unsigned number, lowest first."""
        found = [v for v in self._values(field, _FOUR_BYTES) if isinstance(v, bytes)]
        return int.from_bytes((found or [b""])[-1], "little")

    def _values(self, field: int, kind: int) -> list[int | bytes]:
        found = self._fields.get(field, [])
        others = {other for other, _ in found} - {kind}
        if others:
            raise damaged(
                self._source,
                f"field {field} of a record of the index should be of kind {kind}, "
                f"is of kind {others.pop()}",
            )
        return [value for _, value in found]

    def _read_field(self, data: bytes, position: int) -> int:
        """Note one field; returns where the next one begins."""
        tag, position = read_varint(data, position)
        field, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            number, position = read_varint(data, position)
            self._fields[field].append((kind, number))
            return position
        length = {_EIGHT_BYTES: 8, _FOUR_BYTES: 4}.get(kind)
        if kind == _SIZED:
            length, position = read_varint(data, position)
        if length is None:
            raise ValueError(f"field {field} is of the unknown kind {kind}")
        if position + length > len(data):
            raise ValueError(f"field {field} is cut off")
        self._fields[field].append((kind, data[position : position + length]))
        return position + length


def read_varint(data: bytes, position: int) -> tuple[int, int]:
    """An integer in groups of seven bits, lowest first, and the position after it.

    Raises:
        ValueError: the data ends within it, or it goes on beyond 64 bits.
    """
    value = 0
    for shift, byte in enumerate(data[position : position + _VARINT_BYTES]):
        value |= (byte & 0x7F) << 7 * shift
        if byte < 0x80:
            return value, position + shift + 1
    raise ValueError(f"a number at byte {position} of {len(data)} does not end")
