# The LED hangs on GPIO2. Flash it three times, then read the pin back at both levels: a pin that is tied to GND or VCC, or
# soldered to its neighbour, does not follow.
import time

from machine import Pin


def check():
    pin = Pin(2, Pin.OUT, value=1)
    for _ in range(3):
        pin(0)
        time.sleep_ms(50)
        pin(1)
        time.sleep_ms(50)
    high = pin()
    pin(0)
    low = pin()
    pin(1)
    return {"low": low, "high": high}
