# What the program needs every day: its settings can be read, nothing is left to be filled in, and its library loads. Only
# whether it is so is returned, never a setting: what a check returns goes on record.
def check():
    import mqtt
    import settings
    import thermometer

    config = settings.load()
    with open("/config.json") as file:
        left_open = file.read().count("${")
    broker = config["broker"]
    whole = broker["host"] and broker["user"] and broker["password"] and config["name"] and config["room"]
    return {
        "complete": bool(whole) and config["serial"] in config["topic"],
        "left_open": left_open,
        "loads": hasattr(mqtt, "publish") and hasattr(thermometer, "read"),
    }
