# SPDX-License-Identifier: BSD-3-Clause
"""Xen's store in Python alone: `Xenstore`, `Transaction`, and `xenstore.aio` for asyncio."""

from ._client import Transaction as Transaction
from ._client import Xenstore as Xenstore
from ._wire import Event as Event
from ._wire import Permission as Permission
from .error import ConnectionLost as ConnectionLost
from .error import InvalidRequest as InvalidRequest
from .error import ProtocolError as ProtocolError
from .error import Timeout as Timeout
from .error import TransactionConflict as TransactionConflict
from .error import XenstoreException as XenstoreException

PERM_NONE, PERM_READ, PERM_WRITE, PERM_BOTH = Permission.NONE, Permission.READ, Permission.WRITE, Permission.BOTH
