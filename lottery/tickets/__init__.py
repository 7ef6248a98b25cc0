"""Ticket files: a ticket with all that its training needs, exported, checked and retrained."""
