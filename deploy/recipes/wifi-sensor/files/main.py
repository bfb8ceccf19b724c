# Measures every minute and sends it. The SDK keeps the credentials of the network in flash, where the station put them, and
# joins by itself. When nothing could be sent for ten rounds the board starts anew.
import time

import machine
import network
import settings
import thermometer
from mqtt import publish

PATIENCE = 10


def joined():
    station = network.WLAN(network.STA_IF)
    station.active(True)
    if not station.isconnected():
        station.connect()
        for _ in range(40):
            if station.isconnected():
                break
            time.sleep_ms(500)
    return station.isconnected()


def measure_and_send(config):
    celsius = thermometer.read(machine.Pin(2))
    if celsius is None or not joined():
        return False
    publish(config["broker"], config["client"], config["topic"], "%.2f" % celsius)
    return True


def main():
    config = settings.load()
    failed = 0
    while failed < PATIENCE:
        try:
            failed = 0 if measure_and_send(config) else failed + 1
        except OSError as error:
            print("not sent:", error)
            failed += 1
        time.sleep(config["every_s"])
    machine.reset()


main()
