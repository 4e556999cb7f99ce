"""The places where every collective passes, each a way to capture it."""
