"""What several measurements share: data, records of finished fits, tables, and ways to run a script."""
