"""Sentences that are taught, and the rules by which measurements judge them."""
