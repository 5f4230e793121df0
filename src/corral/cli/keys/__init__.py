"""`corral keys`: who may use the endpoint, and how much."""
