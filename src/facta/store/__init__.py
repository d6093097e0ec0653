"""What was posted of people, kept as posted: events with ids, times and raw values, and facts of users.

Codes and rows belong to an artifact and are made from this, so another artifact needs no migration, and an item that is
unknown today may be known tomorrow. `protocol` says what a store is, `memory` is the obvious one that defines right,
`sql` keeps everything in SQLite or PostgreSQL. Nothing here imports torch.
"""
