"""What goes over the wire: the shapes of requests and answers, which the service and its client share.

Amounts are strings of decimal digits in minor units; a request may give an integer too. Times are journal times, such
as ``2026-01-31T12:00:00.000000Z``. Unknown fields are refused, never ignored.
"""
