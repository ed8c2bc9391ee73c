"""The search for a moment at which a condition holds, in both directions."""
