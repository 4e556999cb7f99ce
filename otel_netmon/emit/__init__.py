"""Records to spans, metrics and log events, in the background."""
