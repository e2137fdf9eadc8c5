"""The wires: one sans-IO engine per protocol, and the drivers that run them on real ports."""
