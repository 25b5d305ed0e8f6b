"""Early stopping: the rule of hooks.StopRule, and the callbacks of Keras and Lightning, on the same monitored values.

    python stops.py <stopped-at> <rows.jsonl>

The first argument is the program of scripts/stopped-at, the second a run's rows as lines, of which table coherence has the values that are replayed, beside random
sequences. The callbacks are the packages' own, called as their trainers call them after each epoch. Where rules differ by design, the second table has a sequence that
shows it. Exits with 1 where they differ elsewhere, or otherwise than is said there.
"""
import json
import math
import os
import random
import subprocess
import sys
import types
import warnings

os.environ["KERAS_BACKEND"] = "torch"

import keras
import pytorch_lightning
import torch
from pytorch_lightning.callbacks import EarlyStopping
from pytorch_lightning.trainer.states import TrainerFn

warnings.filterwarnings("ignore", message="Early stopping conditioned on metric")

def ours(program, rules):
    """The audit at which each rule stops, counted from 1, or 0."""
    def words(values):
        return None if values is None else ["" if v is None else repr(v) for v in values]
    lines = [json.dumps(rule | {end: words(rule.get(end)) for end in ("Values", "Low", "High")}) for rule in rules]
    run = subprocess.run([program], input="\n".join(lines), capture_output=True, text=True)
    if run.returncode:
        sys.exit(run.stderr)
    return [int(line) for line in run.stdout.split()]

def by_keras(rule, **settings):
    callback = keras.callbacks.EarlyStopping(
        monitor="value", mode=rule["Mode"], patience=rule["Patience"], min_delta=rule.get("MinDelta", 0), start_from_epoch=max(0, rule.get("FirstStep", 0) - 1), **settings)
    model = keras.Sequential()
    model.stop_training = False  # as fit begins
    callback.set_model(model)
    callback.on_train_begin()
    for epoch, value in enumerate(rule["Values"]):
        callback.on_epoch_end(epoch, {} if value is None else {"value": value})
        if model.stop_training:
            return epoch + 1
    return 0

def by_lightning(rule, **settings):
    callback = EarlyStopping(
        monitor="value", mode=rule["Mode"], patience=rule["Patience"], min_delta=rule.get("MinDelta", 0), stopping_threshold=rule.get("Threshold"),
        divergence_threshold=rule.get("Divergence"), check_on_train_epoch_end=True, **settings)
    trainer = types.SimpleNamespace(  # what the callback looks at of it
        state=types.SimpleNamespace(fn=TrainerFn.FITTING), sanity_checking=False, fast_dev_run=False, should_stop=False,
        strategy=types.SimpleNamespace(reduce_boolean_decision=lambda stop, all: stop))
    for trainer.current_epoch, value in enumerate(rule["Values"]):
        trainer.callback_metrics = {} if value is None else {"value": torch.tensor(value)}  # in float32, as LightningModule.log makes it
        try:
            callback.on_train_epoch_end(trainer, None)
        except RuntimeError:
            return "an error"
        if trainer.should_stop:
            return trainer.current_epoch + 1
    return 0

def sequences(draw, count, broken=()):
    """Walks with plateaus in steps of 1/128, which float32 has exactly, so that improvements by exactly min_delta occur. Some values are broken, but not the first."""
    for _ in range(count):
        at, values = draw.randrange(-100, 100), []
        for _ in range(draw.randrange(3, 30)):
            at = max(-128, min(128, at + draw.choice([0, 0, draw.randrange(-8, 9)])))
            values.append(draw.choice(broken) if broken and values and draw.random() < 0.15 else at / 128)
        yield values

def rules(values, thresholds=False, first=False):
    """Rules of both modes with several settings on the values. No value is at a threshold: those are between the steps of 1/128."""
    for mode in ("min", "max"):
        good = 1 if mode == "max" else -1
        for patience, delta in ((1, 0), (2, 0), (3, 1 / 32), (5, 1 / 128)):
            rule = {"Mode": mode, "Patience": patience, "MinDelta": delta, "Values": values}
            if thresholds:
                rule |= {"Threshold": good * 101 / 256, "Divergence": -good * 151 / 256}
            if first:
                rule["FirstStep"] = 4
            yield rule

def recorded(file):
    """The values that can be monitored in a run, in the order of its audits: of each model, group and quantity, all of which have them."""
    found, smallest = {}, {}
    with open(file) as lines:
        rows = [row for row in map(json.loads, lines) if row["table"] == "coherence" and row["element"] == "*" and row["direction"] == "loss"]
    for row in rows:
        of = row["model"], row["group_name"]
        smallest[of] = min(smallest.get(of, math.inf), row["relative_lambda"])
    for row in sorted(rows, key=lambda row: row["step"]):
        of = row["model"], row["group_name"]
        if row["relative_lambda"] == smallest[of]:
            for quantity in ("median", "median_target_error", "median_commutator_error"):
                found.setdefault((*of, quantity), []).append(row[quantity])
    return [values for values in found.values() if None not in values]

def agreement(program, run):
    draw, nan, inf = random.Random(1), math.nan, math.inf
    def first_broken(rule, stop):
        """What Lightning makes of our answer by default: it stops at the first value that is not finite."""
        broken = next((i + 1 for i, v in enumerate(rule["Values"]) if not math.isfinite(v)), 0)
        return min(filter(None, (stop, broken)), default=0)
    same = lambda rule, stop: stop
    total = faults = 0
    as_recorded = list(recorded(run))
    single = [[torch.tensor(value).item() for value in values] for values in as_recorded]
    print(f"{'':82} rules  stopped  agree")
    for what, values, settings, peers in (
        ("recorded in a run, rounded to float32", single, {}, (("Keras", by_keras, {}, same), ("Lightning", by_lightning, {}, same))),
        ("random, finite", sequences(draw, 200), {}, (("Keras", by_keras, {}, same), ("Lightning", by_lightning, {}, same))),
        ("random, finite, counted from the fourth audit on (FirstStep, start_from_epoch)", sequences(draw, 100), {"first": True}, (("Keras", by_keras, {}, same),)),
        ("random, finite, with threshold and divergence", sequences(draw, 200), {"thresholds": True}, (("Lightning", by_lightning, {}, same),)),
        ("random, with NaN", sequences(draw, 200, [nan]), {},
            (("Keras", by_keras, {}, same), ("Lightning, check_finite=False", by_lightning, {"check_finite": False}, same))),
        ("random, with NaN and infinities", sequences(draw, 200, [nan, inf, -inf]), {},
            (("Keras", by_keras, {}, same), ("Lightning, check_finite=False", by_lightning, {"check_finite": False}, same),
             ("Lightning; the first that is not finite stops it", by_lightning, {}, first_broken))),
    ):
        asked = [rule for sequence in values for rule in rules(sequence, **settings)]
        answers = ours(program, asked)
        print(what)
        for name, peer, how, account in peers:
            agree = sum(peer(rule, **how) == account(rule, answer) for rule, answer in zip(asked, answers, strict=True))
            print(f"    {name:78} {len(asked):5}  {sum(map(bool, answers)):7}  {agree:5}{'' if agree == len(asked) else '  FAIL'}")
            total, faults = total + len(asked), faults + len(asked) - agree + (not asked)
    asked = [rule for values in as_recorded for rule in rules(values)]
    for name, peer in (("Keras", by_keras), ("Lightning", by_lightning)):
        other = sum(peer(rule) != answer for rule, answer in zip(asked, ours(program, asked), strict=True))
        print(f"not rounded: {name}, which compares in float32, stops at another audit by {other} of {len(asked)} rules")
    return total, faults

def differences(program):
    """Each with the audits at which ours, Keras and Lightning stop, and Lightning that does not check for finite values where that is another."""
    nan, inf = math.nan, math.inf
    patient = {"Mode": "min", "Patience": 2}
    faults = 0
    print(f"\n{'stops at audit (0: never)':66} ours  Keras  Lightning  unchecked")
    for what, rule, keras_settings, lightning_settings, expected in (
        ("the first value is NaN", patient | {"Values": [nan, 0.5, 0.4, 0.3]}, {}, {}, (0, 3, 1, 0)),
        ("a later one is NaN", patient | {"Values": [0.5, nan, 0.4, 0.3]}, {}, {}, (0, 0, 2, 0)),
        ("it begins with the worst infinity", patient | {"Values": [inf, inf, 0.5, 0.4]}, {}, {}, (2, 0, 1, 2)),
        ("two audits without a value", patient | {"Values": [0.5, None, None, 0.4]}, {}, {}, (3, 0, "an error", "an error")),
        ("    the same, Lightning with strict=False", patient | {"Values": [0.5, None, None, 0.4]}, {}, {"strict": False}, (3, 0, 0, 0)),
        ("a value at the threshold", patient | {"Values": [0.5, 0.25, 0.125], "Threshold": 0.25}, {}, {}, (2, 0, 3, 3)),
        ("a value past the threshold, an interval that is not", patient | {"Values": [0.5, 0.2, 0.1], "Low": [0.4, 0.1, 0.05], "High": [0.6, 0.3, 0.15], "Threshold": 0.25}, {}, {}, (3, 0, 2, 2)),
        ("values that get better by 1e-9", patient | {"Values": [0.5, 0.5 - 1e-9, 0.5 - 2e-9]}, {}, {}, (0, 3, 3, 3)),
        ("Keras with baseline=0.4, which no value passes", patient | {"Values": [0.5, 0.45, 0.42, 0.43]}, {"baseline": 0.4}, {}, (0, 4, 0, 0)),
    ):
        found = (ours(program, [rule])[0], by_keras(rule, **keras_settings), by_lightning(rule, **lightning_settings), by_lightning(rule, check_finite=False, **lightning_settings))
        faults += found != expected
        print(f"{what:66} {found[0]:4}  {found[1]:5}  {found[2]:>9}  {found[3]:>9}{'' if found == expected else f'  FAIL: {expected}'}")
    none = patient | {"Patience": 0, "Values": [0.5, 0.6, 0.7]}
    found = by_keras(none), by_lightning(none)
    faults += found != (2, 2)
    print(f"{'patience 0: ours has none then, and refuses a rule of nothing else':66}    -  {found[0]:5}  {found[1]:>9}")
    return faults

def main():
    program, run = sys.argv[1:]
    print(f"Early stopping: symaudit, Keras {keras.__version__}, Lightning {pytorch_lightning.__version__} (PyTorch {torch.__version__})")
    total, faults = agreement(program, run)
    faults += differences(program)
    print("verdict:", f"{faults} FAILED" if faults else f"the same audit in all {total} comparisons; what differs is as listed")
    sys.exit(1 if faults else 0)

if __name__ == "__main__":
    main()
