"""The Open Developer Cloud: lends GPU machines to developers for a bounded time.

Nothing is built at import. Read `docs/architecture.md` next.
"""

__version__ = "0.1.0"
