"""DynamoDB's errors as ODC's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import BotoCoreError, ClientError

from odc.domain.errors import Conflict, ProviderUnavailable

_LOST_RACES = frozenset(("ConditionalCheckFailed", "TransactionConflict"))
"""Reasons of a cancelled transaction: a version differs, or another transaction writes the same item now."""


@contextmanager
def mapped() -> Iterator[None]:
    """Raise ODC's errors for those of the client, which has repeated passing ones itself.

    Raises:
        Conflict: a condition of a write was false; nothing was written.
        ProviderUnavailable: the table does not answer or is throttled, or refuses the credentials. Whether a write
            happened is unknown.
    """
    try:
        yield
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        reasons = [reason.get("Code", "") for reason in error.response.get("CancellationReasons", ())]
        if code in ("ConditionalCheckFailedException", "TransactionConflictException"):
            raise Conflict("a record has changed since it was read, or its name or id is taken") from error
        # A transaction that was throttled in part has not judged the other parts: that is not a lost race.
        faults = [reason for reason in reasons if reason != "None" and reason not in _LOST_RACES]
        if reasons and not faults:
            raise Conflict("a record has changed since it was read, or its name or id is taken") from error
        words = ", ".join(sorted(set(faults))) or error.response.get("Error", {}).get("Message", "")
        raise ProviderUnavailable(f"the table of records does not answer: {code}: {words}") from error
    except BotoCoreError as error:
        raise ProviderUnavailable(f"the table of records does not answer: {error}") from error
