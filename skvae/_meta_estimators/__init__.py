"""Estimators around a `VAETransformer`: a search over it, an outlier detector."""
