"""The store: an append-only log of events in SQLite, written by one thread, durable per commit."""
