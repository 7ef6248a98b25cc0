"""The fairness audit: ticket, controls and dense network held against each other, from what the store recorded."""
