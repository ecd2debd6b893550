"""What is promised of the embedded ledger alone: its file, its disk, its process."""
