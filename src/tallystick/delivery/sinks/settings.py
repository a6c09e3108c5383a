"""What the operator of a process says about sinks. What stands in an endpoint may be a tenant's word."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from tallystick.errors import InvalidInput

ROTATE_BYTES = 256 * 1024 * 1024
MIN_ROTATE_BYTES = 64 * 1024
MAX_ROTATE_BYTES = 64 * 1024 * 1024 * 1024

FOLDER_VARIABLE = "TALLYSTICK_SINK_FOLDER"
ROTATE_VARIABLE = "TALLYSTICK_SINK_ROTATE_BYTES"
SERVERS_VARIABLE = "TALLYSTICK_NATS_SERVERS"
CREDENTIALS_VARIABLE = "TALLYSTICK_NATS_CREDENTIALS"
AWS_VARIABLE = "TALLYSTICK_AWS_ENDPOINT"


class SinkSettings(Struct, frozen=True, kw_only=True):
    """Where sinks may reach. An endpoint names a target; whether this process goes there is said here.

    ``file_folder``: file sinks write below this folder and nowhere else; empty: there are none. ``nats_servers``
    (``host`` or ``host:port``) may be reached wherever they are, and get ``nats_credentials``, the path of a .creds
    file; others only at public addresses, unless ``allow_private``. ``aws_endpoint`` stands in for Amazon's own
    addresses, such as that of an emulator. Who AWS takes this process for is said as with every AWS program
    (environment, profile, role).
    """

    file_folder: str = ""
    file_rotate_bytes: int = ROTATE_BYTES
    nats_servers: tuple[str, ...] = ()
    nats_credentials: str = ""
    aws_endpoint: str = ""
    allow_private: bool = False

    def __post_init__(self) -> None:
        if not MIN_ROTATE_BYTES <= self.file_rotate_bytes <= MAX_ROTATE_BYTES:
            problem = f"{self.file_rotate_bytes} is not {MIN_ROTATE_BYTES} to {MAX_ROTATE_BYTES}"
            raise InvalidInput(path="file_rotate_bytes", problem=problem)


def settings_from(environment: Mapping[str, str], *, allow_private: bool = False) -> SinkSettings:
    """The settings in environment variables. Raises InvalidInput for a size that is none."""
    size = environment.get(ROTATE_VARIABLE, "")
    if size and not (size.isascii() and size.isdigit()):
        raise InvalidInput(path=ROTATE_VARIABLE, problem=f"{size!r} is not a number of bytes")
    return SinkSettings(
        file_folder=environment.get(FOLDER_VARIABLE, ""),
        file_rotate_bytes=int(size) if size else ROTATE_BYTES,
        nats_servers=tuple(environment.get(SERVERS_VARIABLE, "").replace(",", " ").split()),
        nats_credentials=environment.get(CREDENTIALS_VARIABLE, ""),
        aws_endpoint=environment.get(AWS_VARIABLE, ""),
        allow_private=allow_private,
    )
