"""`corral plan`: what fits, split how, how fast, at how many watts; knows what to show, not how it is found."""
