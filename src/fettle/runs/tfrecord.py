"""Reading a growing TFRecord file: the framing of TensorBoard's event files.

A record is its length (uint64, little-endian), a checksum of the length, the data, and a checksum of
the data. Checksums are CRC-32C, rotated by 15 bits and shifted by a constant (TensorFlow, record_writer).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

HEADER_BYTES, FOOTER_BYTES = 12, 4
MASK_DELTA = 0xA282EAD8
POLYNOMIAL = 0x82F63B78
# Longer ones hold pictures, sound or a graph: they are passed over unread.
LONGEST_RECORD_BYTES = 1 << 20


class RecordFollower:
    """Yields the data of complete records as they are appended; nothing is read twice.

    A record that is not whole yet waits. One whose data do not match their checksum is counted in
    `damaged` and left out; where a length does not match its own, nothing behind it can be found, and
    `broken_at` says where that is.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.offset = 0
        self.damaged = 0
        self.broken_at: int | None = None
        self._inode: int | None = None
        self._size = 0
        # Lengths repeat: their checksums are worked out once.
        self._lengths: dict[bytes, int] = {}

    @property
    def torn(self) -> bool:
        """Whether the file ends within a record: one that is being written, or was cut off."""
        return self.broken_at is None and self.offset < self._size

    def replaced(self) -> bool:
        """Whether the file is another one than before, or shorter. Raises OSError where it is gone."""
        status = self.path.stat()
        return self._inode is not None and (status.st_ino != self._inode or status.st_size < self.offset)

    def poll(self) -> Iterator[bytes]:
        """Records that are complete by now and were not given before. Raises OSError."""
        with self.path.open("rb") as stream:
            status = os.fstat(stream.fileno())
            self._inode, self._size = status.st_ino, status.st_size
            stream.seek(self.offset)
            while self.broken_at is None:
                length = self._length(stream)
                if length is None:
                    return
                end = self.offset + HEADER_BYTES + length + FOOTER_BYTES
                if length > LONGEST_RECORD_BYTES:
                    stream.seek(end)
                    self.offset = end
                    continue
                data, checksum = stream.read(length), stream.read(FOOTER_BYTES)
                self.offset = end
                if masked_crc32c(data) == int.from_bytes(checksum, "little"):
                    yield data
                else:
                    self.damaged += 1

    def _length(self, stream: BinaryIO) -> int | None:
        """Length of the next record; None where it is not whole, or cannot be told."""
        header = stream.read(HEADER_BYTES)
        if len(header) < HEADER_BYTES:
            return None
        length = self._lengths.get(header)
        if length is None:
            if masked_crc32c(header[:8]) != int.from_bytes(header[8:], "little"):
                self.broken_at = self.offset
                return None
            length = self._lengths[header] = int.from_bytes(header[:8], "little")
        whole = self.offset + HEADER_BYTES + length + FOOTER_BYTES <= self._size
        return length if whole else None


def masked_crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli, as in RFC 3720 appendix B.4) of the data, masked as TFRecord wants it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + MASK_DELTA) & 0xFFFFFFFF


def _table() -> tuple[int, ...]:
    rows: list[int] = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ (POLYNOMIAL if crc & 1 else 0)
        rows.append(crc)
    return tuple(rows)


_TABLE = _table()
