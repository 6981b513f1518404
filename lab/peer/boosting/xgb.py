"""Times XGBoost on a table: the peer of hasten's boosted trees.

Standard input has one JSON object a line: a table in raw files, settings, and
what to do. Each is answered by one line of JSON. See main.go.
"""

import json
import sys
import time

import numpy as np
import xgboost as xgb


def rows(file, table, dtype, columns):
    return np.fromfile(f"{table}/{file}", dtype=dtype).reshape(-1, columns)


def accuracy(booster, x, y):
    return float(np.mean(np.argmax(booster.inplace_predict(x), axis=1) == y))


def run(job):
    parts = {}
    for part in ("train", "valid", "test"):
        x = rows(f"{part}.x", job["table"], np.float32, job["columns"])
        parts[part] = x, rows(f"{part}.y", job["table"], np.int32, 1)[:, 0]
    params = {
        "objective": "multi:softprob", "num_class": job["classes"], "tree_method": "hist",
        "max_depth": job["depth"], "eta": job["rate"], "max_bin": job["bins"], "nthread": job["threads"],
    }
    x, y = parts["train"]
    xgb.train(params, xgb.QuantileDMatrix(x[:100], y[:100], max_bin=job["bins"]), 2)  # starts its threads
    begin = time.perf_counter()
    data = xgb.QuantileDMatrix(x, y, max_bin=job["bins"], nthread=job["threads"])
    booster = xgb.train(params, data, job["rounds"])
    fit = time.perf_counter() - begin
    test = parts["test"][0]
    booster.inplace_predict(test)
    begin = time.perf_counter()
    booster.inplace_predict(test)
    predict = time.perf_counter() - begin
    return {
        "fit": fit, "predict": predict, "version": xgb.__version__,
        "valid": accuracy(booster, *parts["valid"]), "test": accuracy(booster, *parts["test"]),
    }


for line in sys.stdin:
    print(json.dumps(run(json.loads(line))), flush=True)
