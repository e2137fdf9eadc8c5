"""The gateway daemon: drivers, store and replication in one supervised process."""
