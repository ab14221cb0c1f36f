"""A food delivery: its order, kitchen and billing services, exchanging commands and events.

    customers --place_order--> orders --order_placed--> billing  --order_updates-> customers
                                     |               `-> kitchen --order_updates-> customers
                                     |                        `---refund_order---> billing
                                     `---order_updates--> customers (refused)

The kitchen fails at times: what boils over is cooked again a little later; what it cannot cook at all, however often it
tries, is a dead letter. Once it has got what it lacked, its dead letters are redriven: handled again as if sent anew.

`python -m examples.food_delivery` runs all of it in one process. Where the messages travel is one setting: UNIMSG_URL.
"""
