"""Attention in Modern LLMs: the code that the chapters quote.

One module an idea, read top to bottom: NumPy, PyTorch function, nn.Module.
"""

__version__ = "0.1.0"
