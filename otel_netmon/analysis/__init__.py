"""Works out what records say: the summary of a run. Reads through ``store``; never imports torch."""
