"""The AsyncAPI 3.0 document of services: made from the code, shown as a page, compared with an earlier one."""

from unimsg.asyncapi._document import document
from unimsg.asyncapi._text import to_json, to_yaml

__all__ = ["document", "to_json", "to_yaml"]
