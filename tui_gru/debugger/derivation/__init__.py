"""Where a number comes from: its terms, the terms of these, and so on."""
