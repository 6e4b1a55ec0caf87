"""Process state: the probe protocol, the guards that save asking, and one module per family of state."""
