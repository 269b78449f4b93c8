"""Measurements of skvae, in a folder for each question that they answer; README.md has the results."""
