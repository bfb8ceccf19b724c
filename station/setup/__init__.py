"""What a person does once, in the terminal: teach the sockets, and everything from installing to the first board.

`teaching` says which socket is which slot, `guide` leads through all of it. Both ask and explain; the files they write are
those that one could write by hand.
"""
