"""How well a model describes rows that training never saw."""
