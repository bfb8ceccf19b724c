# mypy: ignore-errors
"""WebREPL as far as it can be seen without a network: it reads its password and listens, or says that it has none.

Runs inside MicroPython. Nobody can connect; what the real one prints is printed.
"""

listen_s = None
client_s = None


def start(port=8266, password=None, accept_handler=None):
    """Listen with the password given, or with that of webrepl_cfg."""
    global listen_s
    stop()
    if password is None:
        try:
            import webrepl_cfg

            password = webrepl_cfg.PASS
        except (ImportError, AttributeError):
            print("WebREPL is not configured, run 'import webrepl_setup'")
            return
    listen_s = port
    print("WebREPL server started on http://192.168.4.1:8266/")
    print("Started webrepl in normal mode")


def stop():
    """Listen no more."""
    global listen_s
    listen_s = None
