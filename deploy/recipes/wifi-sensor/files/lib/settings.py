# What is particular to this board, as the station wrote it.
import json

NEEDED = ("serial", "client", "name", "room", "broker", "topic", "every_s")


def load(path="/config.json"):
    with open(path) as file:
        config = json.load(file)
    for key in NEEDED:
        if key not in config:
            raise ValueError("config.json lacks " + key)
    return config
