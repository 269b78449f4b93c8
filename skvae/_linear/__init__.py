"""The closed-form linear models: probabilistic PCA and factor analysis, where training starts."""
