"""The client of the service: typed, synchronous and asynchronous, with retries that are safe. See docs/client.md.

from tallystick.client import Client

with Client("https://ledger.example.com", token) as client:
    main = client.ledger("main")
    posted = main.transfer("users:alice", "users:bob", "USD/2", 1250, key="order-7")
"""

from tallystick.client.clients import AsyncClient, AsyncLedger, Client, Ledger
from tallystick.client.refusals import BadAnswer, ClientError, NotAnswered, ServiceError, refusal_of
from tallystick.client.sending import AsyncPages, Pages
from tallystick.client.trying import Retry
from tallystick.wire.amounts import minor

__all__ = [
    "AsyncClient",
    "AsyncLedger",
    "AsyncPages",
    "BadAnswer",
    "Client",
    "ClientError",
    "Ledger",
    "NotAnswered",
    "Pages",
    "Retry",
    "ServiceError",
    "minor",
    "refusal_of",
]
