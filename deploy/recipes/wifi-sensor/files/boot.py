# Runs at every start, before main.py. The station adds the two lines that start WebREPL.
import gc

gc.collect()
