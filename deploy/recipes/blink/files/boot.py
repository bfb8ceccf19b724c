# Runs at every start, before main.py.
import gc

gc.collect()
