"""What a trained module says of rows: predictions, components and control limits."""
