"""The station: pulls every gateway's log, keeps it, and shows it."""
