"""Readers: our layer from a layer of transformers, a module for each family."""
