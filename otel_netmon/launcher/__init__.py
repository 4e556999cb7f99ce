"""What the parent of ranks sees of them: how each ended, and what one that was killed was at. Needs no torch."""
