"""The undo log: what moved at each boundary, whose it is, and how it is taken back."""
