"""A checksum inside an ONNX file, which has none of its own: a flipped bit is another weight.

The file is a protocol buffer, and such a message may be appended to: a repeated field goes on
wherever it comes again. The seal is one more entry of ``metadata_props`` (field 14 of
``ModelProto`` in onnx.proto), at the very end: the SHA-256 of every byte before it. Any runtime
reads it as metadata.
"""

import hashlib

_KEY = b"bitladder.sha256"
_DIGITS = 64
_ENTRY = b"\x0a" + bytes([len(_KEY)]) + _KEY + b"\x12" + bytes([_DIGITS])  # key, value
_MARK = b"\x72" + bytes([len(_ENTRY) + _DIGITS]) + _ENTRY


def seal(model: bytes) -> bytes:
    """A serialized ``ModelProto`` with its seal."""
    return model + _MARK + _digest(model)


def is_damaged(content: bytes) -> bool:
    """Whether a file is not what its seal says; one without a seal is not known to be."""
    end = len(content) - len(_MARK) - _DIGITS
    sealed = end >= 0 and content.startswith(_MARK, end)
    return sealed and content[-_DIGITS:] != _digest(content[:end])


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()
