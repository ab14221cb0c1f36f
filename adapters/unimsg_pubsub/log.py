"""Where this adapter says what happens without anybody waiting for it."""

import logging

log = logging.getLogger("unimsg.pubsub")
