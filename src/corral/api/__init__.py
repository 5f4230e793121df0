"""The admin API below /api: keys, usage, status, events; knows what is stored, not how anything runs."""
