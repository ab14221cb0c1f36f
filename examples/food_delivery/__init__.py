"""A food delivery: its order, kitchen and billing services, exchanging commands and events.

    customers --place_order--> orders --order_placed--> billing  --order_updates-> customers
                                     |               `-> kitchen --order_updates-> customers
                                     |                        `---refund_order---> billing
                                     `---order_updates--> customers (refused)

`python -m examples.food_delivery` runs all of it in one process. Where the messages travel is one setting: UNIMSG_URL.
"""
