"""Models that stages ask, each question once."""
