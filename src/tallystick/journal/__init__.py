"""The journal: the exact bytes of every event, and the chain that binds them."""

from tallystick.journal.canonical import decode_event, decode_strict, encode_event, parse_strict
from tallystick.journal.chain import check_link, leaf_hash, seal, seal_transfers

__all__ = [
    "check_link",
    "decode_event",
    "decode_strict",
    "encode_event",
    "leaf_hash",
    "parse_strict",
    "seal",
    "seal_transfers",
]
