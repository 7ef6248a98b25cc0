"""Ticket files: a winning ticket with all that its training needs, exported, checked and retrained."""
