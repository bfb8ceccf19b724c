# A DS18B20. It hangs on GPIO2 with the usual resistor of 4.7 kOhm to 3.3 V, which also lets the board start: GPIO2 must be
# high then. Its drivers are part of every MicroPython build for the ESP8266.
import time


def read(pin):
    # Degrees Celsius; None when nobody answers.
    import ds18x20
    import onewire

    bus = ds18x20.DS18X20(onewire.OneWire(pin))
    found = bus.scan()
    if not found:
        return None
    bus.convert_temp()
    time.sleep_ms(750)
    return bus.read_temp(found[0])
