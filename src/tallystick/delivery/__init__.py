"""Telling others what happened: webhooks, queues and files, from the journal itself.

    outbox       which events an endpoint is told, and whom each is about; messages: in what form
    backlog      what waits for what (lanes), and how far the cursor may move: pure
    courier      one endpoint's deliveries; engine: all of them, by whichever process holds an endpoint's lease
    ladder       when to try again; pace: how hard a receiver is pressed
    transport    what the deliverer wants of whoever carries messages
    webhooks     the one that carries them over HTTP: connections, addresses (where it may go), signatures
    sinks        those for queues and files
    operations   what operators do with endpoints

What holds: each event is told at least once, under one id; of each account in the journal's order; to each endpoint
apart. What does not: exactly once, and an order between events that share no account.
"""
