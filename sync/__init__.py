"""Replication: the station pulls the log over a connection that the gateway opened."""
