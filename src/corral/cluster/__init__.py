"""The cluster file and what can be asked of it; knows no process and no network."""
