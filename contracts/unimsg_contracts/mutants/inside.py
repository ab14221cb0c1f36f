"""Mutants whose fault lives inside of one adapter: imported when its broker is chosen, with its client."""

from collections.abc import Mapping
from importlib import import_module

from unimsg_contracts.cases import (
    test_dead_letters,
    test_killers,
    test_order,
    test_retry,
    test_sending,
    test_settlement,
)
from unimsg_contracts.marks import Case
from unimsg_contracts.mutants.members import in_members
from unimsg_contracts.mutants.planted import Mutant

INSIDE: tuple[tuple[str, str, Case], ...] = (
    ("kafka", "commits_positions", test_settlement.test_the_unsettled_come_back),
    ("kafka", "no_metadata", test_settlement.test_the_acknowledged_do_not_come_back),
    ("kafka", "no_drain", test_settlement.test_a_held_message_is_held_as_long_as_it_takes),
    ("kafka", "skips_what_comes_early", test_sending.test_what_was_confirmed_is_stored),
    ("kafka", "browse_commits", test_dead_letters.test_browsing_removes_nothing),
    ("kafka", "forgets_deaths", test_killers.test_a_killer_is_a_dead_letter_at_last),
    ("kafka", "suspects_all_alike", test_killers.test_a_killer_is_a_dead_letter_at_last),
    ("kafka", "suspects_all_alike", test_killers.test_a_killer_on_an_ordered_channel_is_a_dead_letter_alone),
    ("kafka", "forgets_deaths", test_killers.test_a_killer_that_waited_is_a_dead_letter_at_last),
    ("kafka", "counts_shutdowns", test_killers.test_rolling_restarts_make_no_dead_letter),
    ("rabbitmq", "no_single_active_consumer", test_order.test_order_with_competing_receivers),
    ("rabbitmq", "cancels_at_stop", test_order.test_a_stopped_receiver_keeps_its_running_key),
    ("rabbitmq", "knows_no_last_chance", test_killers.test_a_killer_on_an_ordered_channel_is_a_dead_letter_alone),
    ("rabbitmq", "calls_a_partial_refusal_rejected", test_sending.test_a_partly_refused_event_may_be_stored),
    ("rabbitmq", "delays_a_moment_only", test_retry.test_attempts_are_counted_and_wait),
    ("rabbitmq", "delays_a_moment_only", test_retry.test_what_is_delayed_waits),
    ("rabbitmq", "drops_what_is_due", test_retry.test_what_is_delayed_waits),
    ("rabbitmq", "delays_without_headers", test_retry.test_attempts_are_counted_and_wait),
    ("rabbitmq", "forgets_what_it_shows", test_dead_letters.test_browsing_removes_nothing),
    ("pubsub", "no_lease_keeper", test_settlement.test_a_held_message_is_held_as_long_as_it_takes),
    ("pubsub", "gives_back_at_stop", test_order.test_a_stopped_receiver_keeps_its_running_key),
    ("pubsub", "acknowledges_what_it_shows", test_dead_letters.test_browsing_removes_nothing),
    ("pubsub", "keeps_what_it_shows", test_dead_letters.test_browsing_removes_nothing),
    ("pubsub", "no_dead_letter_policy", test_killers.test_what_comes_too_often_is_a_dead_letter),
    ("pubsub", "gives_up_without_a_word", test_killers.test_what_comes_too_often_is_a_dead_letter),
)

PATIENCE: Mapping[str, float] = {"forgets_deaths": 30.0, "suspects_all_alike": 15.0, "counts_shutdowns": 30.0}
"""Of those whose case must come to its end: what they break shows there only."""


SLOW = {"forgets_deaths", "suspects_all_alike", "counts_shutdowns"}


def inside(broker: str) -> list[Mutant]:
    """The mutants of this broker's adapter, here and in the processes that a case starts."""
    return [
        Mutant(
            case,
            patch=in_members(getattr(import_module(f"{__package__}.{broker}"), name)),
            brokers=(broker,),
            patience=PATIENCE.get(name),
            slow=name in SLOW,
        )
        for found, name, case in INSIDE
        if found == broker
    ]
