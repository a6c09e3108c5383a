"""Agents: the ledger as tools of the Model Context Protocol, for programs that decide by themselves what to ask.

A tool does nothing that a request of the service does not do, because that is what it makes: permissions, mandates,
refusals and idempotency are the service's own, whether it runs elsewhere (``--url``) or in this process.
"""
