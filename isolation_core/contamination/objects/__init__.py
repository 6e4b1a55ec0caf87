"""The object graph: the state of Python objects that modules and values lead to, compared in batches."""
