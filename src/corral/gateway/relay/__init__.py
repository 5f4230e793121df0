"""The way to an engine and back; knows no key, no queue and no choice between engines."""
