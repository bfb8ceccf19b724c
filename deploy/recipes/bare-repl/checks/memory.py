# How large a piece of memory can be had at once, and does it keep what is written to it? A heap in pieces, or RAM that loses
# bits, is not seen by counting free bytes.
import gc


def check():
    gc.collect()
    size = 16384
    piece = None
    while piece is None and size:
        try:
            piece = bytearray(size)
        except MemoryError:
            size -= 1024
    intact = True
    for value in (0x55, 0xAA):
        for i in range(0, size, 64):
            piece[i] = value
        for i in range(0, size, 64):
            intact = intact and piece[i] == value
    return {"largest_piece": size, "intact": intact}
