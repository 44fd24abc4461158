"""Training data: finds and decodes images, labels and captions in folders, archives and tables.

`sources.open_data` opens a data set; `loader.batches` yields its batches, in an order set by seed and position alone.
"""
