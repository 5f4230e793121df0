"""One model server out of the machines you own."""

__version__ = "0.1.0"
