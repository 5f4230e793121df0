"""Carries a deployment out: environments, files, ranks, readiness, the end; knows no HTTP request."""
