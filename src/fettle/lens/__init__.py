"""Concept lenses: small classifiers that read one concept each off a model's hidden activations."""
