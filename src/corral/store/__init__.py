"""What outlives a process: deployments, events; one SQLite database; knows no machine."""
