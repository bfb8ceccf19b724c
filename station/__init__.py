"""The flashing station: plug in an ESP-01, get a green light and a record one can testify with."""
