"""What fits and how it is split; knows no process and no network."""
