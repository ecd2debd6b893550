"""The worker on a real SQLite ledger, in front of a scripted upstream."""
