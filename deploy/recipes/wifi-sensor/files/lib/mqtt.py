# As much of MQTT 3.1.1 as it takes to say one thing: connect, publish at QoS 0, retained, and go. The 1 MB build has no umqtt.
TIMEOUT_S = 10


def _text(text):
    raw = text.encode()
    return len(raw).to_bytes(2, "big") + raw


def _packet(kind, body):
    length = len(body)
    head = bytearray([kind])
    while length > 127:
        head.append(length & 127 | 128)
        length >>= 7
    head.append(length)
    return bytes(head) + body


def connect_packet(client, user, password):
    # Protocol level 4; user name, password, clean session; 60 s to live.
    return _packet(0x10, _text("MQTT") + b"\x04\xc2\x00\x3c" + _text(client) + _text(user) + _text(password))


def publish_packet(topic, message):
    return _packet(0x31, _text(topic) + message.encode())


def _exactly(line, length):
    # A stream may give less than it is asked for.
    found = b""
    while len(found) < length:
        more = line.recv(length - len(found))
        if not more:
            raise OSError("the broker hung up")
        found += more
    return found


def publish(broker, client, topic, message):
    # Raises OSError when the broker cannot be reached, does not answer in time, or does not want us.
    # Imported here: the packets can be made, and looked at, where there is no network.
    import socket

    address = socket.getaddrinfo(broker["host"], broker["port"])[0][-1]
    line = socket.socket()
    try:
        line.settimeout(TIMEOUT_S)
        line.connect(address)
        line.sendall(connect_packet(client, broker["user"], broker["password"]))
        answer = _exactly(line, 4)
        if answer[0] != 0x20 or answer[3]:
            raise OSError("refused by the broker: %d" % answer[3])
        line.sendall(publish_packet(topic, message))
        line.sendall(b"\xe0\x00")
    finally:
        line.close()
