"""Convsmith: from a folder of labelled images to the smallest, fastest ConvNet that meets your accuracy.

The rooms are imported one by one (``from convsmith import data, models, training``); this file loads none of them.
"""

__version__ = "0.1.0"
