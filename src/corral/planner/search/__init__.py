"""Which ways of splitting a model over a cluster there are, and which is best; knows no process and no file."""
