"""Pains of the users of other ledgers, that users of this one are not to have.

Each test is named for the pain, and says what people ran into and where they wrote it down. They ask over HTTP, many at
once, of a service with a SQLite file and of two that share a PostgreSQL database.

==  ==================================================  ==============================================================
 1  concurrent writers collide                          test_two_writers_never_mint_the_same_id
 2  deadlocks from the order of locks                   test_writers_who_take_the_same_accounts_in_opposite_order_do_not_deadlock
 3  hot accounts                                        test_a_hot_account_takes_every_posting
                                                        test_who_waits_for_a_hot_account_does_not_use_up_the_connections
 4  a global lock hidden in the product                 test_no_lock_of_one_ledger_keeps_another_waiting
 5  holds that still count as available                 test_a_hold_is_no_longer_available
                                                        test_holds_and_payments_that_come_together_never_take_more_than_there_is
 6  a rejected hold is committed, or too much of one    test_a_hold_that_was_refused_or_given_back_cannot_be_captured
                                                        test_an_expired_hold_cannot_be_captured_even_before_anybody_swept_it
                                                        test_captures_that_come_together_never_take_more_than_was_held
                                                        test_of_a_capture_and_a_release_that_come_together_one_wins
 7  check, then act                                     test_concurrent_spending_never_takes_more_than_there_is
                                                        test_what_was_checked_before_acting_still_holds_in_the_act
                                                        test_readers_beside_writers_never_see_half_of_a_payment
 8  transaction and balance written apart               test_a_transaction_and_its_balances_are_written_together_or_not_at_all
 9  a broker or a cache as a part of being correct      test_what_was_answered_is_there_for_everybody_at_once
                                                        test_a_broker_that_is_down_costs_no_posting_and_loses_no_event
10  refund twice                                        test_nothing_is_refunded_twice
                                                        test_refunds_in_parts_never_exceed_what_was_paid
11  a batch that is atomic in name only                 test_an_atomic_batch_is_atomic_wherever_the_bad_one_stands
                                                        test_atomic_batches_that_come_together_are_there_wholly_or_not_at_all
12  a key's second use is a server error                test_one_key_used_by_many_at_once_posts_once_and_answers_all
                                                        test_one_key_for_two_requests_at_once_is_a_conflict_and_no_server_error
                                                        test_a_key_that_stands_twice_in_one_batch_is_answered
                                                        test_an_answer_is_the_same_again_whatever_has_happened_since
                                                        test_a_refusal_does_not_use_up_its_key
                                                        test_a_repeated_capture_takes_nothing_more
13  business errors become internal ones in bulk        test_a_refusal_in_a_batch_is_the_refusal_that_it_is_alone
14  overdrafts that are hard to say                     test_an_overdraft_is_one_field_and_is_kept_under_many_writers
                                                        test_who_has_no_overdraft_is_refused_and_not_an_error_of_the_server
15  precision                                           test_amounts_keep_every_digit
                                                        test_the_largest_amount_is_taken_and_one_more_is_refused
                                                        test_what_is_no_whole_amount_is_refused_and_never_rounded
                                                        test_every_leg_keeps_its_own_asset
16  migrations that block or corrupt                    test_many_who_migrate_at_once_make_one_schema
                                                        test_a_schema_that_is_newer_than_the_program_is_refused_and_not_touched
                                                        test_what_is_derived_can_be_made_anew_and_no_hash_changes
17  imports                                             test_an_import_is_whole_or_nothing_keeps_dates_and_ids_and_postings_go_on_after_it
                                                        test_an_import_that_fails_tells_the_line_and_its_exit_code
18  pages that lose the filter or the size              test_every_page_keeps_the_filters_and_the_size_of_the_first
                                                        test_a_cursor_is_not_for_other_filters_other_lists_or_other_hands
19  no filter by account and date                       test_a_month_of_one_account_is_one_list
20  edges of points in time                             test_the_books_as_of_any_time_are_what_they_were
                                                        test_a_time_with_another_zone_is_the_same_instant_and_one_without_is_refused
                                                        test_before_there_was_anything_the_books_are_empty_and_no_error
21  stale or cached reads                               test_everyone_reads_what_he_has_just_written
                                                        test_voiding_a_back_dated_transaction_leaves_no_snapshot_behind_the_times
22  stored balances drift                               test_a_balance_that_somebody_changed_is_found_and_named
23  reads that slow down as the books grow              test_reading_takes_no_more_steps_when_there_is_more
24  events that silently stop                           test_who_follows_the_events_misses_none_while_many_write
                                                        test_a_stream_that_breaks_is_resumed_without_a_gap_or_a_repeat
                                                        test_a_receiver_that_fails_is_asked_again_until_it_has_everything
25  closing a year by hand                              test_nothing_takes_effect_in_a_closed_period_and_its_balances_stay
                                                        test_a_period_that_is_closed_while_others_post_is_closed_for_all_of_them
                                                        test_each_tenant_reads_his_own_balances_and_no_one_else_s
==  ==================================================  ==============================================================

All of them apply. Of two, a part does not: in a SQLite file there is one writer, so its ledgers do take turns (4); and
there is no script language, so nothing that a script could get wrong (12, 14). The filter by metadata of 19 is one by
causal reference here. What else is known to have hurt is in test_also.py.
"""  # noqa: E501 - names of tests are as long as they are
