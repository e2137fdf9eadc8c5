"""Parts of a bench: simulated devices, lines, pins, networks, and the programs under test.

Each device keeps its own journal; nothing in here asks the product what happened.
"""
