"""The messages on the wire: one envelope for every request, and the views that answer.

`--json` prints these views, so fields are not removed. Times are RFC 3339, UTC. Decoding a request is strict: an
unknown field or kind is refused by name. The requests themselves are `odc.domain.requests`.
"""
