"""A food delivery: its order, kitchen, billing and courier services, and every style in which they can talk.

    customers --place_order--> orders                                         a command
                               orders --how_long--> kitchen                   a request: the reply is awaited
                               orders --delivery_wanted--> bike, car          a survey: the cheaper one is taken
                               orders --collect_payment--> billing            a command whose reply may take its time:
                               orders <----payments------- billing            it comes to a durable reply queue
                               orders --order_placed--> kitchen, bike, car    an event
                  customers <--order_updates-- orders, kitchen, billing       events of one order, in order
                              kitchen --refund_order--> billing               a command

The kitchen fails at times: what boils over is cooked again a little later; what it cannot cook at all, however often it
tries, is a dead letter. Once it has got what it lacked, its dead letters are redriven: handled again as if sent anew.

`python -m examples.food_delivery` runs all of it in one process. Where the messages travel is one setting: UNIMSG_URL.
"""
