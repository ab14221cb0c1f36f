"""The brokers, as servers: where they are and how one logs in, never as whom."""

from typing import Any
from urllib.parse import quote, unquote, urlsplit

from unimsg.asyncapi._places import Broker
from unimsg.network import host_and_port

Json = dict[str, Any]

_PROTOCOLS = {"kafkas": "kafka-secure", "pubsub": "googlepubsub"}
"""By scheme, where AsyncAPI has another name for it."""
_PORTS = {"amqp": 5672, "amqps": 5671, "kafka": 9092, "kafkas": 9093}
_SASL = {"plain": "plain", "scram-sha-256": "scramSha256", "scram-sha-512": "scramSha512"}
_WITHOUT_SERVER = ("memory",)


def servers_of(broker: Broker) -> dict[str, Json]:
    """One for each of its hosts; none for the broker in memory."""
    if broker.kind in _WITHOUT_SERVER:
        return {}
    parts = urlsplit(broker.url)
    hosts = parts.netloc.rpartition("@")[2].split(",")
    return {
        broker.name if number == 1 else f"{broker.name}-{number}": _server(broker, parts.scheme, host)
        for number, host in enumerate(hosts, 1)
    }


def _server(broker: Broker, scheme: str, host: str) -> Json:
    server: Json = {"host": _host(broker, scheme, host), "protocol": _PROTOCOLS.get(scheme, scheme)}
    if broker.kind == "rabbitmq":
        server["protocolVersion"] = "0.9.1"
        server["pathname"] = "/" + quote(virtual_host(broker).removeprefix("/"), safe="")
    if broker.kind == "pubsub":
        server["pathname"] = f"/projects/{quote(host, safe='')}"
        server["description"] = f"Google Cloud Pub/Sub, project {host}"
    if (security := _security(broker)) is not None:
        server["security"] = [security]
    return server


def virtual_host(broker: Broker) -> str:
    """Of RabbitMQ."""
    return unquote(urlsplit(broker.url).path[1:]) or "/"


def _host(broker: Broker, scheme: str, host: str) -> str:
    if broker.kind == "pubsub":  # its URL names the project
        return str(broker.options.get("emulator") or broker.options.get("endpoint") or "pubsub.googleapis.com:443")
    name, port = host_and_port(f"{scheme}://", host, _PORTS[scheme]) if scheme in _PORTS else (host, None)
    name = f"[{name}]" if ":" in name and not name.startswith("[") else name
    return (name if port is None else f"{name}:{port}").replace("{", "%7B").replace("}", "%7D")


def _security(broker: Broker) -> Json | None:
    if broker.kind == "rabbitmq":
        return {"type": "userPassword"}
    if broker.kind == "kafka" and broker.options.get("sasl") in _SASL:
        return {"type": _SASL[broker.options["sasl"]]}
    return None
