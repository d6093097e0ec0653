"""From an event log to batches, in rooms that know the ones before them.

`dataset`: what was prepared, and what its columns mean. `split`: what may be learned from, and what was known when.
`batches`: from a dataset or a request to tensors. `log`: from a log of any form to a dataset. `public`: public datasets
by name. `synthetic`: simulated logs whose best prediction is known.
"""
