"""Reply queues: G18 of `send(reply_to=)`, where the reply may come after the client's death."""

from unimsg import Context, Reject, RemoteError, ReplyQueue, Retry, Service
from unimsg_contracts.asker import Asker
from unimsg_contracts.asking import echo
from unimsg_contracts.child import named
from unimsg_contracts.marks import guarantee
from unimsg_contracts.reading import eventually
from unimsg_contracts.stage import Stage


class Client:
    """Handles what comes back."""

    def __init__(self, *queues: ReplyQueue[str]) -> None:
        self.got: dict[str | None, str | RemoteError] = {}
        """By the id of what was sent."""
        self.service = Service("client", grace=2.0)
        for queue in queues:
            self.service.handler(queue)(self._handle)

    async def come(self, stage: Stage, count: int) -> None:
        await eventually(lambda: len(self.got) >= count, stage.recovery, lambda: f"only {self.got} came")

    async def _handle(self, body: str | RemoteError, context: Context) -> None:
        self.got[context.message.causation_id] = body


@guarantee("G18")
async def test_the_reply_waits_for_any_client(stage: Stage) -> None:
    """The reply queue is made by the sender; the reply waits there for whoever of the client comes later."""
    queue, answers = stage.declare_queue(str, replies=str), stage.declare_reply_queue(str)
    async with stage.bus() as bus:
        ids = {await bus.send(queue, body, reply_to=answers): body for body in ("one", "two")}
        async with bus.pipeline() as pipeline:
            ids[await pipeline.send(queue, "three", reply_to=answers)] = "three"
    missing = await stage.is_missing(await stage.adapter(), stage.address_of(answers))
    assert not missing, "who sends does not make the reply queue"
    client = Client(answers)
    async with stage.bus(echo(queue)), stage.bus(client.service):
        await client.come(stage, 3)
    assert client.got == ids


@guarantee("G18", needs=("processes",))
async def test_the_reply_outlives_the_client_that_asked(stage: Stage) -> None:
    """The client's process is killed before the reply: another one handles it, and knows what it is the reply to."""
    queue, answers = stage.declare_queue(str, replies=str), stage.declare_reply_queue(str)
    broker = {"url": stage.harness.url, **stage.harness.options}
    asker = Asker({"brokers": {"default": broker}}, named(stage.adapter_type), queue.name, answers.name)
    id = await stage.within(asker.ask_and_die("pay"), "a process that asks", 30.0 + stage.recovery)
    client = Client(answers)
    async with stage.bus(echo(queue), client.service):
        await client.come(stage, 1)
    assert client.got == {id: "pay"}


@guarantee("G18")
async def test_a_failure_is_a_reply_and_a_dead_letter(stage: Stage) -> None:
    """After the last attempt the RemoteError goes to the reply queue, and the message to the dead letters."""
    queue, answers = stage.declare_queue(str, replies=str), stage.declare_reply_queue(str)
    service = Service("failing", grace=2.0, retry=Retry(0.1))
    attempts: list[int] = []

    @service.handler(queue)
    async def handle(body: str, context: Context) -> str:
        if body == "reject":
            raise Reject("we have none", code="no-stock")
        attempts.append(context.attempt)
        raise RuntimeError("a secret")

    client = Client(answers)
    async with stage.bus(service, client.service) as bus:
        rejected = await bus.send(queue, "reject", reply_to=answers)
        failed = await bus.send(queue, "fail", reply_to=answers)
        await client.come(stage, 2)
        letters = {letter.message.id: letter.reason async for letter in bus.dead_letters(queue)}
    told = {id: (body.code, body.text) for id, body in client.got.items() if isinstance(body, RemoteError)}
    assert told == {rejected: ("no-stock", "we have none"), failed: ("internal", "")}
    assert letters == {rejected: "rejected", failed: "failed"}
    assert attempts == [1, 2]


@guarantee("G18", needs=("delete",))
async def test_who_answers_makes_no_reply_queue(stage: Stage) -> None:
    """The reply queue was deleted: the message is a dead letter after its retries, nothing is made, others flow."""
    queue, answers = stage.declare_queue(str, replies=str), stage.declare_reply_queue(str)
    gone = stage.declare_reply_queue(str)
    service, client = echo(queue), Client(answers)
    service.retry = Retry(0.1)
    async with stage.bus() as bus:
        lost = await bus.send(queue, "lost", reply_to=gone)
        await stage.harness.delete(stage.address_of(gone))
        async with stage.bus(service, client.service):
            kept = await bus.send(queue, "kept", reply_to=answers)
            await client.come(stage, 1)

            async def dead() -> bool:
                return [letter.message.id async for letter in bus.dead_letters(queue)] == [lost]

            await eventually(dead, stage.recovery, lambda: "the message without a reply queue is no dead letter")
    assert client.got == {kept: "kept"}
    assert await stage.is_missing(await stage.adapter(), stage.address_of(gone)), "who answers has made it"
