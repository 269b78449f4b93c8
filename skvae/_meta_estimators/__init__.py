"""What stands around a `VAETransformer`: a search over it, an outlier detector, a comparison with other models."""
