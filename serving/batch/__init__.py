"""Many photographs to many captions: sources, readers ahead of the model, a journal, sinks.

`run.py` is the whole way in one screen. Nothing here grows with the number of photographs.
"""
