"""The undo log: the differences at each boundary, their owners, and the rollback."""
