"""One profile a library, each in a module of its name."""
