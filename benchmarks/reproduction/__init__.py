"""Whether theory and published figures come out."""
