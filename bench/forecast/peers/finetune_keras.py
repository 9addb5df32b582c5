"""Keras' side of the predecessor's training: lines `small COUNT` come in, a JSON line with the processor time of each repetition goes out.

Each repetition is what the predecessor did for each ticker: a fresh model is compiled and fitted for the first time.
"""

import json
import sys
import time

import numpy
import tensorflow
import keras

LOOK_BACK, WINDOWS = 15, 110


def closes(n):
    """The same closes as our side's: they wander, scaled to 0 to 1."""
    at, found = 0.0, []
    for step in (numpy.arange(n) * 7919 % 2003) / 1001.5 - 1.0:
        at = 0.98 * at + step
        found.append(at)
    found = numpy.array(found, dtype=numpy.float32)
    return (found - found.min()) / (found.max() - found.min())


def main():
    tensorflow.config.threading.set_intra_op_parallelism_threads(1)
    tensorflow.config.threading.set_inter_op_parallelism_threads(1)
    prices = closes(WINDOWS + LOOK_BACK)
    x = numpy.lib.stride_tricks.sliding_window_view(prices, LOOK_BACK)[:WINDOWS, :, None].copy()
    y = prices[LOOK_BACK:]
    for line in sys.stdin:
        name, count = line.split()
        values = []
        for _ in range(int(count)):
            keras.backend.clear_session()
            start = time.process_time()
            model = keras.Sequential([keras.Input((LOOK_BACK, 1)), keras.layers.LSTM(20), keras.layers.Dense(1)])
            model.compile(optimizer=keras.optimizers.Adam(1e-4), loss="mse")
            model.fit(x, y, epochs=5, batch_size=32, verbose=0)
            values.append(time.process_time() - start)
        print(json.dumps({"name": name, "values": values}), flush=True)


if __name__ == "__main__":
    main()
