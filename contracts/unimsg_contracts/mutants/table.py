"""Which case catches which mutant. Every case stands here at least once."""

from unimsg.adapter import Adapter
from unimsg_contracts.cases import (
    test_batches,
    test_bus,
    test_codecs,
    test_command_line,
    test_dead_letters,
    test_distribution,
    test_duplicates,
    test_errors,
    test_evolution,
    test_expiry,
    test_fidelity,
    test_flow,
    test_foreign,
    test_held_dead_letters,
    test_killers,
    test_leaving,
    test_long_keys,
    test_operations,
    test_order,
    test_order_in_processes,
    test_ordered_retry,
    test_reconnection,
    test_replay,
    test_reply_queues,
    test_request_failures,
    test_request_faults,
    test_requests,
    test_retry,
    test_return_addresses,
    test_sending,
    test_services,
    test_settlement,
    test_surveys,
    test_topology,
)
from unimsg_contracts.mutants import commands, conversations, memory, operating, policies, receiving, sending
from unimsg_contracts.mutants.broken import around
from unimsg_contracts.mutants.members import SettlesNothingAfterStop, in_members
from unimsg_contracts.mutants.planted import Mutant

RABBITMQ = ("rabbitmq",)

SENDING = (
    Mutant(test_sending.test_what_was_confirmed_is_stored, sending.LosesMessages),
    Mutant(test_sending.test_a_large_batch_is_stored_whole, sending.Truncates),
    Mutant(test_sending.test_a_missing_channel_is_unroutable_and_stays_missing, sending.CreatesMissing),
    Mutant(test_sending.test_a_missing_channel_harms_no_neighbour, sending.FailsItsNeighbours),
    Mutant(test_sending.test_a_deleted_queue_is_unroutable, sending.SwallowsRefusals),
    Mutant(test_sending.test_what_was_refused_never_shows_up, sending.SwallowsRefusals),
    Mutant(test_sending.test_what_was_refused_never_shows_up, sending.RefusesWhatItStores),
    Mutant(test_sending.test_a_partly_refused_event_may_be_stored, sending.RefusesAllItStores),
    Mutant(test_sending.test_one_bad_message_fails_alone, sending.FailsTheBatch),
    Mutant(test_sending.test_a_topic_without_subscriptions_takes_messages, sending.WantsSubscriptions),
    Mutant(test_sending.test_a_send_keeps_its_deadline, sending.IgnoresDeadlines, brokers=RABBITMQ),
    Mutant(test_sending.test_a_send_keeps_its_deadline, sending.CallsUnconfirmedRejected, brokers=RABBITMQ),
    Mutant(test_sending.test_a_send_waits_for_reconnection, sending.GivesUpAtOnce, brokers=RABBITMQ),
    Mutant(test_distribution.test_competing_receivers_share_a_queue, sending.Twice),
    Mutant(test_distribution.test_every_subscription_gets_every_message, sending.FirstSubscriptionOnly),
    Mutant(test_distribution.test_receivers_of_one_subscription_compete, sending.Twice),
    Mutant(test_order.test_order_with_competing_receivers, sending.ShufflesKeys),
    Mutant(test_order.test_order_of_overlapping_sends, sending.LetsCallsOvertake),
    Mutant(test_fidelity.test_bodies_arrive_byte_by_byte, sending.ReadsBodiesAsText),
    Mutant(test_fidelity.test_headers_arrive_as_they_are, sending.DropsHeaders),
    Mutant(test_fidelity.test_ids_and_keys_arrive_as_they_are, sending.MakesIds),
    Mutant(test_fidelity.test_a_key_is_not_needed, sending.InventsKeys),
    Mutant(test_foreign.test_others_read_valid_cloudevents, sending.DropsHeaders),
    Mutant(test_topology.test_a_delay_beyond_the_broker_is_refused, sending.IgnoresDelays, brokers=RABBITMQ),
    Mutant(test_bus.test_send_reaches_one_service_and_publish_every_one, sending.Twice),
    Mutant(test_bus.test_a_refused_send_raises_what_happened, sending.CreatesMissing),
    Mutant(test_bus.test_a_pipeline_tells_each_failure, sending.SwallowsRefusals),
    Mutant(test_bus.test_a_message_arrives_with_all_that_it_is, sending.DropsHeaders),
    Mutant(test_bus.test_what_unimsg_publishes_is_a_cloudevent, sending.DropsHeaders),
    Mutant(test_services.test_handlers_keep_the_order_of_a_key, sending.ShufflesKeys),
)

RECEIVING = (
    Mutant(test_settlement.test_the_unsettled_come_back, receiving.AcksOnReceive),
    Mutant(test_settlement.test_the_unsettled_come_back, receiving.CloseAcks),
    Mutant(test_settlement.test_the_unsettled_come_back, receiving.CloseKeeps),
    Mutant(test_settlement.test_a_killed_process_loses_nothing, receiving.AcksOnReceive, brokers=RABBITMQ),
    Mutant(test_settlement.test_a_cancelled_receive_loses_nothing, receiving.LosesOnCancel),
    Mutant(test_settlement.test_a_released_message_comes_again, receiving.ReleaseAcks),
    Mutant(test_settlement.test_a_held_message_is_held_as_long_as_it_takes, receiving.HandsOutHeld),
    Mutant(test_settlement.test_the_acknowledged_do_not_come_back, receiving.AcksUpToTheFirstGap),
    Mutant(test_settlement.test_an_acknowledgement_right_before_the_end_counts, receiving.DropsLastAcks),
    Mutant(test_settlement.test_receivers_come_and_go_without_repeats, receiving.DropsLastAcks),
    Mutant(test_flow.test_prefetch_is_never_exceeded, receiving.IgnoresPrefetch),
    Mutant(test_flow.test_prefetch_holds_over_all_partitions, receiving.IgnoresPrefetch),
    Mutant(test_flow.test_who_joins_waits_for_nobody, receiving.WaitsToJoin),
    Mutant(test_flow.test_a_slow_subscription_starves_no_other, receiving.OneForAll, receiving.one_turn),
    Mutant(test_order.test_other_keys_go_on, receiving.OneAtATime),
    Mutant(test_order.test_nothing_is_lost_while_receivers_leave, receiving.CloseAcks),
    Mutant(test_order.test_a_stopped_receiver_keeps_its_running_key, receiving.StopCloses),
    Mutant(test_leaving.test_what_was_acknowledged_just_before_the_end_never_comes_again, receiving.DropsLastAcks),
    Mutant(test_leaving.test_giving_back_counts_as_nothing, receiving.CountsGivingBack),
    Mutant(test_leaving.test_stop_ends_the_intake_only, receiving.StopDoesNothing),
    Mutant(test_leaving.test_stop_ends_the_intake_only, receiving.StopCloses),
    Mutant(test_leaving.test_stop_hands_over_at_once, receiving.StopKeepsWhatWaits),
    Mutant(test_leaving.test_closing_an_adapter_closes_its_receivers, receiving.ForgetsReceivers),
    Mutant(test_leaving.test_closing_is_bounded_when_the_broker_is_dead, receiving.SlowToClose, brokers=RABBITMQ),
    Mutant(test_foreign.test_foreign_messages_are_received, receiving.DropsForeignHeaders),
    Mutant(test_foreign.test_odd_foreign_messages_block_nothing, receiving.StopsAtForeign),
    Mutant(test_distribution.test_an_inbox_receives_from_the_first_moment, receiving.LateInbox),
    Mutant(test_reconnection.test_what_a_lost_connection_left_open_comes_again, receiving.SwallowsLost),
    Mutant(test_reconnection.test_what_was_acknowledged_before_a_cut_stays_so, receiving.DropsLastAcks),
    Mutant(test_reconnection.test_a_deleted_channel_ends_its_receivers, receiving.IgnoresDeletion),
    Mutant(
        test_reconnection.test_a_restarted_broker_loses_nothing_confirmed, receiving.NeverReconnects, brokers=RABBITMQ
    ),
    Mutant(test_services.test_headers_go_on_with_what_is_sent_because_of_a_message, patch=policies.propagates_nothing),
    Mutant(test_services.test_headers_go_on_with_what_is_sent_because_of_a_message, patch=policies.propagates_all),
    Mutant(test_bus.test_a_handler_gets_foreign_messages, receiving.DropsForeignHeaders),
    Mutant(test_services.test_a_failed_message_is_handled_again, patch=policies.acknowledges_without_a_copy),
    Mutant(test_services.test_shutdown_ends_what_runs_and_gives_back_the_rest, receiving.ReleaseAcks),
    Mutant(test_services.test_stops_in_mid_backlog_repeat_nothing, receiving.DropsLastAcks),
    Mutant(test_services.test_cancelled_by_shutdown_is_no_failure, receiving.ReleaseAcks),
)

OPERATING = (
    Mutant(test_errors.test_a_closed_port, operating.HidesTheCause, brokers=RABBITMQ),
    Mutant(test_errors.test_an_unknown_host, operating.HidesTheCause, brokers=RABBITMQ),
    Mutant(test_errors.test_a_silent_server, operating.WaitsForEver, brokers=RABBITMQ),
    Mutant(test_errors.test_a_server_of_another_protocol, operating.HidesTheCause, brokers=RABBITMQ),
    Mutant(test_errors.test_tls_to_a_plain_server, operating.HidesTheCause, brokers=RABBITMQ),
    Mutant(test_errors.test_plain_text_to_a_tls_server, operating.HidesTheCause, brokers=RABBITMQ),
    Mutant(test_errors.test_an_untrusted_certificate, operating.HidesTheCause, brokers=RABBITMQ),
    Mutant(test_errors.test_a_wrong_password, operating.ShowsSecrets, brokers=RABBITMQ),
    Mutant(test_errors.test_a_wrong_virtual_host, operating.HidesTheCause, brokers=RABBITMQ),
    Mutant(test_distribution.test_a_new_subscription_starts_now, operating.Replays),
    Mutant(test_distribution.test_ensuring_again_moves_nothing, operating.EnsurePurges),
    Mutant(test_distribution.test_concurrent_ensures_lose_nothing, operating.EnsuresLater),
    Mutant(test_distribution.test_concurrent_ensures_of_one_adapter_lose_nothing, operating.EnsuresLater),
    Mutant(test_distribution.test_racing_processes_lose_nothing, operating.EnsuresLater, brokers=RABBITMQ),
    Mutant(test_operations.test_a_channel_is_found_as_it_is, operating.FindsWhatIsAsked),
    Mutant(test_operations.test_a_queue_is_no_topic, operating.FindsWhatIsAsked),
    Mutant(test_operations.test_a_deleted_subscription_gets_nothing_and_others_all, operating.DeletesNothing),
    Mutant(test_operations.test_a_temporary_subscription_leaves_nothing, operating.DeletesNothing),
    Mutant(test_operations.test_a_temporary_subscription_leaves_nothing, operating.TemporaryAsAny),
    Mutant(test_operations.test_asking_for_permissions_changes_nothing, operating.AsksByDoing),
    Mutant(test_operations.test_missing_permissions_are_told, operating.AllowsAll, brokers=RABBITMQ),
    Mutant(test_operations.test_both_ends_say_what_they_are, operating.SaysNothing),
    Mutant(test_topology.test_inspecting_tells_what_is_missing, operating.SeesNothing),
    Mutant(test_topology.test_inspecting_agrees_with_ensure, operating.SeesDifferences),
    Mutant(test_topology.test_order_never_changes, operating.AcceptsDifferences),
    Mutant(test_topology.test_partitions_never_change, operating.AcceptsDifferences),
    Mutant(test_topology.test_a_misspelt_option_is_refused, operating.AcceptsAnyOption),
    Mutant(test_topology.test_receiving_from_nothing_is_an_error, operating.ReceiverCreates),
    Mutant(test_topology.test_what_is_forbidden_is_told, operating.HidesPermissions, brokers=RABBITMQ),
    Mutant(test_topology.test_the_backlog_is_counted, operating.SeesNothing),
    Mutant(test_bus.test_verify_makes_nothing, operating.SeesNothing),
    Mutant(test_reconnection.test_health_tells_of_a_lost_connection, operating.AlwaysWell, brokers=RABBITMQ),
    Mutant(test_services.test_health_is_not_ready_without_the_broker, operating.AlwaysWell, brokers=RABBITMQ),
)

IN_MEMORY = (
    Mutant(test_order.test_order_with_competing_receivers, patch=memory.no_owner),
    Mutant(test_order.test_order_while_receivers_join, patch=memory.no_owner),
    Mutant(test_order.test_order_while_receivers_leave, patch=memory.no_owner),
    Mutant(test_order.test_a_stopped_receiver_keeps_its_running_key, patch=memory.no_owner),
    Mutant(test_leaving.test_what_goes_back_keeps_its_order, patch=memory.gives_back_in_reverse),
    Mutant(test_reconnection.test_a_cut_connection_loses_nothing_confirmed, patch=memory.stays_away),
    Mutant(test_reconnection.test_a_cut_connection_of_an_ordered_channel, patch=memory.stays_away),
    Mutant(test_services.test_services_go_on_after_a_cut, patch=memory.stays_away),
    Mutant(test_distribution.test_an_inbox_is_gone_after_close, patch=memory.inbox_stays),
    Mutant(test_services.test_concurrency_is_a_limit, patch=memory.more_than_concurrency),
    Mutant(test_services.test_a_failed_handler_has_sent_nothing, patch=memory.sends_at_once),
)

_held = test_held_dead_letters
HELD = (
    Mutant(_held.test_a_full_dead_letter_queue_holds_its_messages, patch=policies.swallows_refused_copies),
    Mutant(_held.test_a_full_dead_letter_queue_holds_its_messages, patch=policies.hammers),
    Mutant(_held.test_a_dead_letter_goes_on_once_there_is_room, patch=policies.never_tries_again),
    Mutant(
        _held.test_a_forbidden_dead_letter_queue_holds_its_messages,
        patch=policies.swallows_refused_copies,
        brokers=RABBITMQ,
    ),
    Mutant(_held.test_a_forbidden_dead_letter_queue_holds_its_messages, patch=policies.hammers, brokers=RABBITMQ),
    Mutant(_held.test_a_dead_letter_that_cannot_be_stored_is_held, patch=policies.swallows_refused_copies),
    Mutant(_held.test_a_dead_letter_that_cannot_be_stored_is_held, patch=policies.holds_without_a_word),
    Mutant(_held.test_a_dead_letter_that_is_held_holds_its_key_only, patch=policies.swallows_refused_copies),
    Mutant(_held.test_a_dead_letter_that_is_held_holds_its_key_only, patch=policies.forgets_keys),
)

POLICIES = (
    Mutant(test_replay.test_a_new_subscription_can_begin_in_the_past, operating.ForgetsTheStart),
    Mutant(test_replay.test_a_start_in_the_past_meets_the_present, operating.ForgetsTheStart),
    Mutant(test_replay.test_replay_reaches_one_subscription, patch=policies.replays_to_all_subscriptions),
    Mutant(test_replay.test_replay_reaches_one_subscription, patch=policies.replays_as_any_message),
    Mutant(test_replay.test_a_history_beyond_the_broker_is_refused, patch=policies.promises_any_history),
    Mutant(test_retry.test_attempts_are_counted_and_wait, patch=policies.counts_no_attempts),
    Mutant(test_retry.test_attempts_are_counted_and_wait, sending.IgnoresDelays),
    Mutant(test_retry.test_attempts_are_counted_and_wait, patch=policies.acknowledges_without_a_copy),
    Mutant(test_retry.test_only_the_subscription_that_failed_tries_again, patch=policies.retries_the_whole_topic),
    Mutant(test_retry.test_waiting_keeps_nobody_back, patch=policies.waits_with_its_slot),
    Mutant(test_retry.test_waiting_keeps_nobody_back, sending.IgnoresDelays),
    Mutant(test_retry.test_waiting_outlives_the_receiver, sending.IgnoresDelays),
    Mutant(test_retry.test_waiting_outlives_the_receiver, patch=policies.acknowledges_without_a_copy),
    Mutant(test_retry.test_waiting_outlives_the_broker, sending.IgnoresDelays, brokers=RABBITMQ),
    Mutant(test_retry.test_shutdown_counts_as_no_attempt, patch=policies.counts_cancellation),
    Mutant(test_retry.test_shutdown_counts_as_no_attempt, policies.CountsRedeliveries),
    Mutant(test_retry.test_a_lost_connection_counts_as_no_attempt, policies.CountsRedeliveries),
    Mutant(test_retry.test_what_is_delayed_waits, sending.IgnoresDelays),
    Mutant(test_ordered_retry.test_a_failing_message_holds_its_key_only, patch=policies.forgets_keys),
    Mutant(test_ordered_retry.test_a_failing_message_holds_its_key_only, receiving.OneAtATime),
    Mutant(test_ordered_retry.test_order_under_failure, patch=policies.forgets_keys),
    Mutant(test_ordered_retry.test_order_under_failure, patch=memory.no_owner),
    Mutant(test_ordered_retry.test_a_shutdown_ends_the_wait, patch=memory.gives_back_in_reverse),
    Mutant(test_ordered_retry.test_no_delay_on_an_ordered_channel, patch=policies.delays_whatever_is_asked),
    Mutant(test_dead_letters.test_the_last_attempt_makes_a_dead_letter, patch=policies.records_nothing),
    Mutant(test_dead_letters.test_the_last_attempt_makes_a_dead_letter, patch=policies.acknowledges_without_a_copy),
    Mutant(test_dead_letters.test_a_rejected_message_is_dead_at_once, patch=policies.retries_what_is_final),
    Mutant(test_dead_letters.test_an_undecodable_message_is_dead_at_once, patch=policies.acknowledges_without_a_copy),
    Mutant(
        test_dead_letters.test_each_subscription_has_its_own_dead_letters, patch=policies.one_dead_letter_queue_for_all
    ),
    Mutant(test_dead_letters.test_redrive_puts_back_what_is_chosen, patch=policies.redrives_everything),
    Mutant(test_dead_letters.test_redrive_puts_back_what_is_chosen, patch=policies.redrives_as_the_seventh_attempt),
    Mutant(
        test_dead_letters.test_redrive_gets_past_what_is_not_wanted, patch=policies.holds_what_is_not_wanted, slow=True
    ),
    Mutant(test_dead_letters.test_redrive_gets_past_what_is_not_wanted, patch=policies.removes_what_is_not_wanted),
    Mutant(test_dead_letters.test_redrive_gets_past_what_is_not_wanted, operating.ShowsOnePage),
    Mutant(test_dead_letters.test_dropping_removes_what_is_chosen, patch=policies.drops_everything),
    Mutant(test_dead_letters.test_dropping_removes_what_is_chosen, patch=policies.drops_nothing),
    Mutant(test_dead_letters.test_redrive_reaches_one_subscription, patch=policies.redrives_to_all_subscriptions),
    Mutant(test_dead_letters.test_an_interrupted_redrive_loses_nothing, patch=policies.removes_before_it_puts_back),
    Mutant(test_dead_letters.test_a_dead_letter_lets_its_key_go_on, patch=policies.forgets_keys),
    Mutant(test_dead_letters.test_browsing_removes_nothing, operating.BrowsingRemoves),
    Mutant(test_batches.test_only_the_poison_of_a_batch_is_dead, patch=policies.buries_the_whole_batch),
    Mutant(test_batches.test_batches_keep_the_order_of_a_key, patch=policies.forgets_keys),
    Mutant(test_duplicates.test_a_repeated_message_has_one_effect, patch=policies.marks_before_it_handles),
    Mutant(test_duplicates.test_a_repeated_message_has_one_effect, patch=policies.never_marks),
    Mutant(test_duplicates.test_each_subscription_has_its_own_effect, patch=policies.marks_for_all_handlers),
    Mutant(test_evolution.test_old_messages_are_upgraded, patch=policies.forgets_upgrades),
    Mutant(test_evolution.test_old_messages_are_upgraded, patch=policies.takes_any_type),
    Mutant(test_evolution.test_two_codecs_share_a_channel, patch=policies.reads_with_the_first_codec),
    Mutant(test_codecs.test_bodies_of_each_codec_arrive_as_they_were_sent, sending.ReadsBodiesAsText),
    Mutant(test_codecs.test_a_hostile_body_is_a_dead_letter_and_the_next_is_handled, patch=policies.reads_dtds),
    Mutant(
        test_codecs.test_a_hostile_body_is_a_dead_letter_and_the_next_is_handled, patch=policies.reads_avro_of_any_depth
    ),
    Mutant(
        test_codecs.test_a_hostile_body_is_a_dead_letter_and_the_next_is_handled,
        patch=policies.acknowledges_without_a_copy,
    ),
    Mutant(
        test_killers.test_a_killer_is_a_dead_letter_at_last, patch=policies.no_backstop, brokers=RABBITMQ, patience=20.0
    ),
    Mutant(test_killers.test_what_comes_too_often_is_a_dead_letter, patch=policies.no_backstop, brokers=RABBITMQ),
    Mutant(test_killers.test_rolling_restarts_make_no_dead_letter, receiving.AcksOnReceive, brokers=RABBITMQ),
    Mutant(test_expiry.test_an_expired_message_is_dropped, patch=policies.handles_the_expired),
    Mutant(test_expiry.test_a_message_expires_while_it_waits_for_a_retry, patch=policies.handles_the_expired),
)

settles_at_the_end = in_members(policies.settles_at_the_end)
forgets_keys = in_members(policies.forgets_keys)
PROCESSES = (
    Mutant(test_order_in_processes.test_order_while_processes_join, sending.ShufflesKeys, brokers=RABBITMQ),
    Mutant(test_order_in_processes.test_order_while_processes_join, patch=forgets_keys, brokers=RABBITMQ),
    Mutant(test_order_in_processes.test_order_while_processes_are_restarted, SettlesNothingAfterStop, brokers=RABBITMQ),
    Mutant(test_order_in_processes.test_order_while_processes_die, receiving.AcksOnReceive, brokers=RABBITMQ),
    Mutant(
        test_order_in_processes.test_nothing_is_lost_while_processes_are_restarted,
        receiving.AcksOnReceive,
        brokers=RABBITMQ,
    ),
    Mutant(test_order_in_processes.test_order_with_one_process, patch=forgets_keys, brokers=RABBITMQ, patience=10.0),
    Mutant(test_order_in_processes.test_order_with_two_processes, patch=forgets_keys, brokers=RABBITMQ, patience=10.0),
    Mutant(test_order_in_processes.test_order_with_four_processes, patch=forgets_keys, brokers=RABBITMQ, patience=10.0),
    Mutant(
        test_order_in_processes.test_a_process_that_dies_counts_as_no_failure,
        policies.CountsRedeliveries,
        brokers=RABBITMQ,
        patience=10.0,
    ),
    Mutant(
        test_killers.test_a_killer_on_an_ordered_channel_is_a_dead_letter_alone,
        patch=settles_at_the_end,
        slow=True,
        brokers=RABBITMQ,
        patience=20.0,
    ),
    Mutant(
        test_killers.test_a_killer_that_waited_is_a_dead_letter_at_last,
        patch=policies.no_backstop,
        brokers=RABBITMQ,
        patience=20.0,
        slow=True,
    ),
    Mutant(test_long_keys.test_a_key_with_more_messages_than_prefetch, patch=policies.forgets_keys),
)

CONVERSATIONS = (
    Mutant(test_requests.test_each_request_gets_its_own_reply, patch=conversations.gives_replies_in_turn),
    Mutant(
        test_requests.test_a_request_nobody_handles_ends_at_its_deadline, patch=conversations.waits_beyond_the_deadline
    ),
    Mutant(test_requests.test_a_request_nobody_handles_ends_at_its_deadline, patch=policies.handles_the_expired),
    Mutant(
        test_requests.test_a_request_to_a_deleted_queue_is_rejected, patch=conversations.waits_for_what_was_not_sent
    ),
    Mutant(
        test_requests.test_a_request_without_a_broker_is_rejected_in_time,
        patch=conversations.waits_for_what_was_not_sent,
        brokers=RABBITMQ,
    ),
    Mutant(test_requests.test_replies_are_typed, patch=conversations.reads_the_first_type),
    Mutant(test_requests.test_a_reply_of_another_type_is_an_error, patch=conversations.takes_any_reply),
    Mutant(test_requests.test_requests_keep_the_order_of_a_key, sending.ShufflesKeys),
    Mutant(test_requests.test_a_handler_asks_another, patch=conversations.asks_out_of_context),
    Mutant(test_requests.test_what_runs_at_shutdown_replies, patch=conversations.stops_without_grace),
    Mutant(test_requests.test_the_end_of_the_bus_ends_its_requests, patch=conversations.leaves_requests_waiting),
    Mutant(test_requests.test_conversations_where_nothing_is_made, operating.SeesDifferences),
    Mutant(test_requests.test_conversations_under_a_prefix, patch=conversations.answers_without_prefix),
    Mutant(test_request_failures.test_a_rejection_reaches_who_asked, patch=conversations.buries_requests),
    Mutant(test_request_failures.test_a_rejection_reaches_who_asked, patch=policies.retries_what_is_final),
    Mutant(test_request_failures.test_an_error_is_told_without_its_text, patch=conversations.tells_every_text),
    Mutant(
        test_request_failures.test_a_request_is_retried_within_its_deadline_only,
        patch=conversations.retries_beyond_the_deadline,
        slow=True,
    ),
    Mutant(
        test_request_failures.test_a_request_is_retried_within_its_deadline_only, patch=conversations.retries_no_request
    ),
    Mutant(test_request_failures.test_an_undecodable_request_is_told, patch=policies.acknowledges_without_a_copy),
    Mutant(test_request_failures.test_a_reply_that_cannot_travel_is_an_error, patch=conversations.says_anything),
    Mutant(
        test_request_failures.test_the_reply_comes_after_what_the_handler_sent,
        patch=conversations.replies_whatever_happens,
    ),
    Mutant(test_return_addresses.test_late_and_repeated_replies_are_dropped, patch=conversations.forgets_who_asked),
    Mutant(test_return_addresses.test_forged_replies_are_dropped, patch=conversations.gives_replies_in_turn),
    Mutant(test_return_addresses.test_inboxes_are_private, conversations.TellsAllInboxes),
    Mutant(test_return_addresses.test_other_addresses_are_never_answered, patch=conversations.answers_any_address),
    Mutant(test_return_addresses.test_a_reply_is_never_answered, patch=conversations.answers_replies),
    Mutant(
        test_return_addresses.test_a_requester_that_is_gone_holds_nothing, patch=conversations.holds_what_cannot_be_told
    ),
    Mutant(test_return_addresses.test_a_repeated_request_gets_the_stored_reply, patch=policies.never_marks),
    Mutant(test_return_addresses.test_a_repeated_request_gets_the_stored_reply, patch=conversations.forgets_the_reply),
    Mutant(test_reply_queues.test_the_reply_waits_for_any_client, patch=conversations.makes_no_reply_queue),
    Mutant(test_reply_queues.test_the_reply_waits_for_any_client, patch=conversations.forgets_the_cause),
    Mutant(
        test_reply_queues.test_the_reply_outlives_the_client_that_asked,
        patch=conversations.forgets_the_cause,
        brokers=RABBITMQ,
    ),
    Mutant(test_reply_queues.test_a_failure_is_a_reply_and_a_dead_letter, patch=conversations.tells_nobody),
    Mutant(test_reply_queues.test_a_failure_is_a_reply_and_a_dead_letter, patch=conversations.buries_nothing),
    Mutant(test_reply_queues.test_who_answers_makes_no_reply_queue, sending.CreatesMissing),
    Mutant(test_surveys.test_a_survey_collects_every_reply, sending.FirstSubscriptionOnly),
    Mutant(test_surveys.test_a_survey_collects_every_reply, patch=conversations.tells_nobody),
    Mutant(test_surveys.test_a_survey_ends_with_its_count, patch=conversations.never_has_enough),
    Mutant(test_surveys.test_replies_come_as_they_are_given, patch=conversations.waits_for_all_replies),
    Mutant(test_surveys.test_each_subscription_replies_once, patch=conversations.takes_repeated_replies),
    Mutant(test_surveys.test_leaving_a_survey_stops_it, patch=conversations.goes_on_collecting),
    Mutant(test_surveys.test_nobody_is_asked_after_the_end, patch=policies.handles_the_expired),
    Mutant(test_surveys.test_surveys_leave_nothing_behind, patch=conversations.leaks_a_task),
    Mutant(test_request_faults.test_requests_survive_a_cut_of_who_asks, patch=memory.stays_away),
    Mutant(test_request_faults.test_requests_survive_a_cut_of_who_answers, patch=memory.stays_away),
    Mutant(
        test_request_faults.test_requests_survive_a_restart_of_the_broker, receiving.NeverReconnects, brokers=RABBITMQ
    ),
)

COMMANDS = tuple(
    Mutant(case, patch=in_members(fault), brokers=RABBITMQ, patience=10.0)
    for case, fault in (
        (test_command_line.test_tail_takes_nothing_and_leaves_nothing, commands.leaves_its_subscription),
        (test_command_line.test_tail_never_reads_from_a_queue, commands.watches_queues),
        (test_command_line.test_send_reaches_what_it_names, commands.makes_what_is_missing),
        (test_command_line.test_dead_letters_by_command, commands.means_them_all),
        (
            test_command_line.test_redrive_by_command_reaches_one_subscription,
            policies.redrives_to_all_subscriptions,
        ),
        (test_command_line.test_the_doctor_tells_well_from_ill, commands.finds_nothing),
        (test_command_line.test_run_drains_its_workers, commands.kills_its_workers),
    )
)

MUTANTS: tuple[Mutant, ...] = (
    *SENDING,
    *RECEIVING,
    *OPERATING,
    *IN_MEMORY,
    *HELD,
    *POLICIES,
    *CONVERSATIONS,
    *PROCESSES,
    *COMMANDS,
)


def wrapped(fault: str, adapter_type: type[Adapter]) -> type[Adapter]:
    """`adapter_type` with the mutant of that name around it."""
    found = next(mutant.fault for mutant in MUTANTS if mutant.fault is not None and mutant.fault.__name__ == fault)
    return around(found, adapter_type)
