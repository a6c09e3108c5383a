"""What an operator may set of a service; each limit has a name and a default."""

from __future__ import annotations

from msgspec import Struct

MAX_ITEMS = 10_000
"""The most items of one page, and the most commands of one batch."""


class Settings(Struct, frozen=True, kw_only=True):
    """Sizes in bytes, times in seconds."""

    default_ledger: str = "main"
    """The ledger of the paths that name none."""
    max_body: int = 1_048_576
    """The largest body of a request that is no batch."""
    max_batch_body: int = 16_777_216
    """The largest body of a batch, and the largest line of a stream times the batch size."""
    max_waiting: int = 4_096
    """Postings that may wait for one ledger; more are refused at once, with 503."""
    max_requests: int = 512
    """Requests that may be under way in this process; more are refused at once, with 503."""
    max_streams: int = 256
    """Event streams that may be open at a time."""
    body_seconds: float = 30.0
    """How long a body may take to arrive."""
    requests_per_second: int = 0
    """The rate limit of a key that names none; 0: no limit."""
    public_requests_per_second: int = 20
    """The rate limit of each address that asks without a key."""
    unknown_tokens_per_second: int = 100
    """The rate limit of each address for tokens that this process has not met: each has to be looked up."""
    stop_seconds: float = 25.0
    """How long a stopping service may take to finish what it accepted."""
    stream_poll_seconds: float = 0.2
    """How often a stream asks the store for what other processes wrote."""
    log_home: str = ""
    """The folder with the home of each ledger's log; empty: this service makes no receipts or proofs."""
    log_publish: bool = False
    """Whether the logs are published where their homes say, events included."""
    oidc_issuer: str = ""
    oidc_audience: str = ""
    access_log: bool = True
    """Whether every request is logged; those that went wrong always are."""
    traces: str = ""
    """Where spans are sent, an OTLP endpoint; empty: nothing is traced."""
    allow_private: bool = False
    """Whether webhooks may go to private and loopback addresses, and without TLS."""
