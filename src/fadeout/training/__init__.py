"""A run from its config to its trace, as one compiled program."""
