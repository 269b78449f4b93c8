"""The linear models where training starts: probabilistic PCA and factor analysis."""
