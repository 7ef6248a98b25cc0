"""The fairness audit: ticket, controls and dense network of a study compared, from what the store recorded.

The audit reads everything again from the store, on purpose: identities, metrics, masks and bits, each under its key. It
takes nothing from the plan's memory but which jobs there are. An audit that trusts the plan's memory proves nothing: it
would compare what was meant with what was meant.
"""
