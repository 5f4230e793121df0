"""Who is let in, in which order, and to which replica; pure: knows no HTTP, no clock and no connection."""
