"""The AsyncAPI document of services, made of their declarations."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from unimsg.asyncapi._channels import channel_of, reply_channel_of
from unimsg.asyncapi._headers import component_name, correlations_of, headers_of
from unimsg.asyncapi._messages import Form, forms_of, message_of, modes_of, replies_of
from unimsg.asyncapi._operations import receive_of, reply_of, send_of
from unimsg.asyncapi._payloads import Payloads
from unimsg.asyncapi._places import Place, Places
from unimsg.asyncapi._servers import servers_of
from unimsg.asyncapi._uses import Side, Use, about_service, uses_of
from unimsg.service import Service

if TYPE_CHECKING:
    from unimsg.config import Settings

Json = dict[str, Any]


def document(
    *services: Service[Any],
    settings: "Settings | None" = None,
    title: str | None = None,
    version: str = "0.0.0",
) -> dict[str, Any]:
    """The AsyncAPI 3.0 document of these services, as JSON in Python's types.

    It holds the channels that their handlers read, and those in `Service(sends=...)`. `settings`: where the channels
    are, instead of file and environment; no password is read, and no user or password is shown. `title`: of the API,
    the services' names unless given. `version`: of the API.

    Raises:
        ConfigurationError: wrong settings; a broker's client is not installed; declarations that contradict.
    """
    if settings is None:
        from unimsg.config import Settings  # not above: it takes long to import

        settings = Settings.load()
    return _Assembly(services, settings).document(title, version)


class _Assembly:
    """One document in the making."""

    def __init__(self, services: Sequence[Service[Any]], settings: "Settings") -> None:
        self._services = services
        self._settings = settings
        places = Places(settings)
        self._uses = uses_of(services)
        self._places = {name: places.get(use.channel) for name, use in self._uses.items()}
        self._forms = {name: forms_of(use.declarations) for name, use in self._uses.items()}
        self._replies = {name: replies_of(use.declarations) for name, use in self._uses.items()}
        self._payloads = Payloads()
        for name, use in self._uses.items():
            for form in self._forms[name]:
                self._payloads.add(form, form.codec, modes_of(form, use.side))
            for form in self._replies[name]:
                self._payloads.add(form, form.codec, modes_of(form, use.side_of_replies))
        self._payloads.make()

    def document(self, title: str | None, version: str) -> Json:
        made: Json = {"asyncapi": "3.0.0", "info": self._info(title, version), "defaultContentType": "application/json"}
        if servers := self._servers():
            made["servers"] = servers
        made["channels"] = {}
        made["operations"] = {}
        for use in self._uses.values():
            self._add(made, use)
        made["components"] = self._components()
        return made

    def _add(self, made: Json, use: Use) -> None:
        name = use.channel.name
        place, forms = self._places[name], self._forms[name]
        messages = self._messages(forms, place, use.side)
        made["channels"][name] = channel_of(use, place, messages)
        reply = self._add_replies(made, use, place)
        for service, handler in use.handlers:
            own = f"{service.name}.receive.{handler.source.replace('/', '..')}"
            made["operations"][own] = {**receive_of(service, handler, place, self._settings, list(messages)), **reply}
        written = [form.key for form in forms if form.is_written]
        for service in use.senders:
            made["operations"][f"{service.name}.send.{name}"] = {**send_of(service, use, place, written), **reply}

    def _add_replies(self, made: Json, use: Use, place: Place) -> Json:
        """What operations on the channel say of replies."""
        name = use.channel.name
        if not (forms := self._replies[name]):
            return {}
        messages = self._messages(forms, place, use.side_of_replies)
        made["channels"][f"{name}..reply"] = reply_channel_of(use, place, messages)
        return {"reply": reply_of(name, place.broker.prefix, list(messages))}

    def _messages(self, forms: list[Form], place: Place, side: Side) -> Json:
        return {form.key: message_of(form, place, self._payloads, side) for form in forms}

    def _info(self, title: str | None, version: str) -> Json:
        about = {service.name: about_service(service) for service in self._services}
        info: Json = {"title": title or ", ".join(about) or "unimsg", "version": version}
        if len(about) == 1 and (text := next(iter(about.values()))):
            info["description"] = text
        info["tags"] = [
            {"name": name} if text is None else {"name": name, "description": text} for name, text in about.items()
        ]
        return info

    def _servers(self) -> Json:
        servers: Json = {}
        for place in self._places.values():
            servers.update(servers_of(place.broker))
        return servers

    def _components(self) -> Json:
        schemas: Json = {}
        correlations: Json = {}
        for place in self._places.values():
            broker = place.broker
            schemas[component_name(broker.kind)] = headers_of(broker.prefix)
            correlations.update(correlations_of(broker.kind, broker.prefix))
        return {"schemas": {**self._payloads.components, **schemas}, "correlationIds": correlations}
