"""Tables as people bring them: arrays of any library, rows read in blocks, their weights and the columns' scaling."""
