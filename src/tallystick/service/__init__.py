"""The service: the ledgers over HTTP. Every route translates; none decides.

operations   what can be asked: one table, from which routes, permissions, OpenAPI and tests are made
answering    what every request passes: who asks, how often, what, whether they may; then the answer, or a problem
gathering    what is asked at the same time becomes one call of the engine
routes/      one file for each group of operations
application  the parts put together, as an ASGI application
"""
