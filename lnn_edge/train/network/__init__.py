"""The network that the estimator trains."""
