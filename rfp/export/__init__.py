"""Features, matches and weights in the formats of other tools."""
