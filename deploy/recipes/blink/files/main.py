# Blinks the blue LED of an ESP-01S. It hangs on GPIO2 and lights when the pin is low.
# On an ESP-01 the LED is GPIO1, which is also TX: write Pin(1, ...) there, and the prompt is gone while this runs.
import time

from machine import Pin

led = Pin(2, Pin.OUT, value=1)

while True:
    led(not led())
    time.sleep_ms(500)
