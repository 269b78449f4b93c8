"""Training: the phases of a fit, the loop over epochs, the step, and many models at once."""
