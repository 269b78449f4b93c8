"""What the engine makes of a GPU, as one Markdown report.

    python -m benchmarks.speed.gpu
    SKVAE_DATA=folder python -m benchmarks.speed.gpu        with the images of folder/mnist.npz (see common/images.py)
    python -m benchmarks.speed.gpu --device cpu --quick     every line of it at tiny sizes, where there is no GPU
    python -m benchmarks.speed.gpu --all                    what is to be known first, in 9 minutes, with the tests
    python -m benchmarks.speed.gpu --all --quick --device gpu:0 --under tests.rehearsal     on a GPU that is none

Turns are interleaved, the first of them warms up, and the device is waited for at the end of each; a figure is the
median, a ratio the median of the ratios of neighbouring turns. A part that fails prints its error, and the others run.
With --all each part is a process of its own, and the report is written to one Markdown and one JSON file as parts end.
"""

import copy
import importlib.util
import json
import os
import subprocess
import sys
import time
import traceback
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.common.arguments import parser_of
from benchmarks.common.images import load
from benchmarks.common.markdown import heading, line, spread
from benchmarks.common.turns import interleaved
from benchmarks.record import tables_of
from benchmarks.speed import first_hour
from benchmarks.speed.competitors import EPOCHS, by_hand, loaded, pythae_as_it_comes
from benchmarks.speed.first_hour import is_real, wait_for
from benchmarks.speed.nets import CASES, at_start, data, on_device, training, untrained
from skvae import VAETransformer
from skvae._data.rows import blocks
from skvae._training.step import Step
from skvae.networks import PRECISIONS, training_products
from skvae.posteriors import POSTERIORS

GOAL = 0.2  # of the hand-written loop's time, on the small case
BY_HAND = "by hand, rows moved a batch"
PYTHAE = "pythae as it comes"
FULL_SIZE = {
    "turns": 5,
    "small": CASES["small"],
    "large": CASES["large"],
    "filling": dict(n=200_000, p=2048, hidden=(4096, 4096), d=64, batch=8192),
    "square": 8192,  # of the matrix product that the chip is measured by
    "images": dict(n=60_000, p=784, hidden=(400,), d=20, batch=128, epochs=15),
    "held out": dict(n=3000, p=200, d=4, epochs=100, seeds=3),
    "start": dict(n=5000, p=500, d=10),
    "transform": dict(n=1_000_000, p=200, d=10),
}
TINY = dict(n=2000, p=12, hidden=(8,), d=3, batch=150)
QUICK = {
    "turns": 1,
    "small": TINY,
    "large": TINY,
    "filling": TINY,
    "square": 32,
    "images": dict(TINY, epochs=2),
    "held out": dict(n=100, p=12, d=2, epochs=2, seeds=2),
    "start": dict(n=100, p=12, d=2),
    "transform": dict(n=1000, p=12, d=2),
}


def timed(runs, turns, device):
    """`interleaved`, the device waited for."""

    def whole(run):
        result = run()
        wait_for(device)
        return result

    return interleaved({name: partial(whole, run) for name, run in runs.items()}, turns)


def without_capture(net):
    """The net, to take each step as a CPU does."""
    options = net.compile_step, net.precision, net.training_step_.kl_scale
    net.training_step_ = Step(net.module_, net.criterion_, net.optimizer_, *options)
    return net


def sliced(u, batch):
    def batches():
        order = torch.randperm(len(u), device=u.device)
        return (u[order[block]] for block in blocks(len(u), batch))

    return batches


def epochs(sizes, device, name, compiled):
    """Milliseconds an epoch of the engine's variants against hand-written loops, all from the same weights."""
    case = sizes[name]
    X = data(case["n"], case["p"], case["d"])
    variants = {"VAETransformer": {}, "VAETransformer, no capture": {}}
    if compiled:
        variants = {f"{label}, compile": {"compile": True} for label in variants}
    else:
        variants |= {f"VAETransformer, {p}": {"posterior": p} for p in POSTERIORS if p != "diag"}
        if is_real(device):
            variants |= {f"VAETransformer, {precision}": {"precision": precision} for precision in PRECISIONS[1:]}
    runs = {}
    for label, options in variants.items():
        net, u = at_start(case, X, device=device, **options)
        if not runs:
            loops = {BY_HAND: loaded(u.cpu(), case["batch"])}
            if not compiled:
                loops["by hand, rows on the device"] = loaded(u, case["batch"])
                loops["by hand, rows on the device, no DataLoader"] = sliced(u, case["batch"])
            runs = {loop: by_hand(copy.deepcopy(net.module_), rows) for loop, rows in loops.items()}
            if not compiled and importlib.util.find_spec("pythae") is not None:
                runs[PYTHAE] = pythae_as_it_comes(copy.deepcopy(net.module_).cpu(), u.cpu(), case["batch"])
        runs[label] = training(without_capture(net) if "no capture" in label else net, u)
    seconds, last = timed(runs, sizes["turns"], device)
    ratios = {label: np.median(seconds[label] / seconds[BY_HAND]) for label in runs}
    print(case, end="\n\n")
    print(heading("run", "ms per epoch", "ratio to by hand", "last loss"))
    for label in runs:
        ms = 1000 * np.median(seconds[label]) / EPOCHS
        print(line(label, f"{ms:.2f}", f"{ratios[label]:.3f}", f"{last[label]:.2f}"))
    if name == "small" and not compiled:
        print(f"\nGoal of {GOAL}: {'met' if ratios['VAETransformer'] <= GOAL else 'missed'}.")
    same_loss = set(last) - {PYTHAE} - {f"VAETransformer, {p}" for p in POSTERIORS}
    assert all(abs(last[label] / last[BY_HAND] - 1) < 0.01 for label in same_loss), "not all train alike"


def operations(module):
    """Operations of the networks per row and step: 6 per weight, 4 in the first layer, as rows need no gradient."""
    weights = [layer.weight.numel() for layer in module.modules() if isinstance(layer, torch.nn.Linear)]
    return 6 * sum(weights) - 2 * module.encoder.net[0].weight.numel()


def one_epoch(net, u):
    """The steps of an epoch, nothing scored, of a net that has trained."""
    iterator = net.get_iterator(u, training=True)
    return partial(net.run_single_epoch, iterator, training=True, prefix="train", step_fn=net.train_step)


def square_product(size, precision, device, repeats=10):
    options = {"device": device, "dtype": torch.bfloat16 if precision == "bf16" else torch.float32}
    a, b = torch.randn(size, size, **options), torch.randn(size, size, **options)

    def run():
        with training_products(precision):
            for _ in range(repeats):
                a @ b

    return run, 2 * repeats * size**3


def filling(sizes, device):
    """Operations a second of steps that fill the chip, beside those of a big square product."""
    case, square = sizes["filling"], sizes["square"]
    u = torch.randn(case["n"], case["p"], device=device)
    few = np.random.RandomState(0).standard_normal((1000, case["p"])).astype(np.float32)  # for the scaling
    runs, work = {}, {}
    for precision in PRECISIONS:
        net, _ = untrained(case, few, device=device, precision=precision)
        net.fit_loop((u, None), epochs=1)
        runs["step", precision], work["step", precision] = one_epoch(net, u), operations(net.module_) * len(u)
        runs["square", precision], work["square", precision] = square_product(square, precision, device)
    seconds, _ = timed(runs, sizes["turns"], device)
    rate = {key: work[key] / np.median(seconds[key]) / 1e12 for key in runs}
    print(f"{case}; square product of {square}\n")
    print(heading("precision", "ms per step", "TFLOP/s, networks' products", "TFLOP/s, square product", "share"))
    for precision in PRECISIONS:
        ms = 1000 * np.median(seconds["step", precision]) * case["batch"] / case["n"]
        ours, square = rate["step", precision], rate["square", precision]
        print(line(precision, f"{ms:.2f}", f"{ours:.4g}", f"{square:.4g}", f"{ours / square:.2f}"))


def images(case):
    """(name, rows in [0, 1])."""
    if not os.environ.get("SKVAE_DATA"):
        return "synthetic rows", 1 / (1 + np.exp(-data(case["n"], case["p"], case["d"])))
    return "MNIST", load("mnist")[0][: case["n"]]


def fits(sizes, device):
    """Seconds of whole fits."""
    case = sizes["images"]
    name, X = images(case)
    models = {
        posterior: VAETransformer(
            case["d"],
            posterior=posterior,
            likelihood="bernoulli",
            hidden_layer_sizes=case["hidden"],
            batch_size=case["batch"],
            max_iter=case["epochs"],
            validation_fraction=None,
            device=device,
            random_state=0,
        )
        for posterior in POSTERIORS
    }
    runs = {posterior: partial(model.fit, X) for posterior, model in models.items()}
    seconds, _ = timed(runs, min(3, sizes["turns"]), device)
    print(f"{name}, {X.shape[0]:,} x {X.shape[1]}; {case}\n")
    print(heading("posterior", "s per fit", "ms per epoch within", "last loss"))
    for posterior, model in models.items():
        epoch = 1000 * np.median([row["dur"] for row in model.history_[1:]])
        loss = model.history_[-1]["train_loss"]
        print(line(posterior, f"{np.median(seconds[posterior]):.2f}", f"{epoch:.1f}", f"{loss:.2f}"))


def held_out(sizes, device):
    """What precision does to the score of held-out rows, and what another shuffle and noise do to it."""
    case = sizes["held out"]
    scores, seconds = {}, {}
    variants = {precision: (precision, 0) for precision in PRECISIONS} | {"float32, other random_state": ("float32", 1)}
    for seed in range(case["seeds"]):
        X = data(case["n"], case["p"], case["d"], seed)
        train, test = X[: 2 * len(X) // 3], X[2 * len(X) // 3 :]
        for label, (precision, state) in variants.items():
            model = VAETransformer(
                case["d"], precision=precision, max_iter=case["epochs"], device=device, random_state=2 * seed + state
            )
            start = time.perf_counter()
            model.fit(train)
            seconds.setdefault(label, []).append(time.perf_counter() - start)
            scores.setdefault(label, []).append(model.score(test))
    print(f"{case}, defaults\n")
    print(heading("precision", "score, nats per row", "difference to float32, mean ± spread", "s per fit"))
    for label, score in scores.items():
        difference = spread(np.subtract(score, scores["float32"]), digits=3, ddof=1)
        print(line(label, f"{np.mean(score):.2f}", difference, f"{np.median(seconds[label]):.2f}"))


def unsynchronised(batches, device):
    """The batches; whatever waits for the device before the last of them is used is an error."""
    if device == "cuda":
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield from batches
    finally:
        if device == "cuda":
            torch.cuda.set_sync_debug_mode("default")


def no_synchronisation(sizes, device):
    """An epoch, the learning-rate schedule included, runs to its end before the device is read."""
    case = sizes["small"]
    X = data(case["n"], case["p"], case["d"])
    found = {}
    print(heading("posterior", "steps", "waited for the device"))
    for posterior in POSTERIORS:
        net, _ = untrained(case, X, device=device, posterior=posterior)
        u = on_device(net, X)
        net.fit_loop((u, None), epochs=1, cycle=3)
        batches = net.get_iterator(u, training=True)
        try:
            watched = unsynchronised(batches, device)
            net.run_single_epoch(watched, training=True, prefix="train", step_fn=net.train_step)
            found[posterior] = "no" if device == "cuda" else "not watched on a CPU"
        except RuntimeError as error:
            watched.close()
            found[posterior] = f"yes: {str(error).splitlines()[0]}"
        print(line(posterior, len(batches), found[posterior]))
    assert not any(answer.startswith("yes") for answer in found.values()), "an epoch waits for the device"


def linear_start(sizes, device):
    """Seconds of the way to the linear optimum, on the device and on the CPU."""
    case = sizes["start"]
    X = data(case["n"], case["p"], case["d"])
    runs = {
        (likelihood, where): partial(VAETransformer(case["d"], likelihood=likelihood, max_iter=0, device=where).fit, X)
        for likelihood in ("gaussian", "gaussian_isotropic")
        for where in dict.fromkeys((device, "cpu"))
    }
    seconds, _ = timed(runs, sizes["turns"], device)
    print(f"{case}, max_iter=0\n")
    print(heading("likelihood", "device", "s"))
    for (likelihood, where), s in seconds.items():
        print(line(likelihood, where, f"{np.median(s):.3f}"))


def transform(sizes, device):
    """Rows per second of inference, from host to host."""
    runs = {"transform": 1, "score_samples": 20, "reconstruct": 5}  # and what share of the rows each is given
    case = sizes["transform"]
    X = np.random.default_rng(0).standard_normal((case["n"], case["p"]), dtype=np.float32)
    model = VAETransformer(case["d"], max_iter=0, device=device, random_state=0).fit(X[:10_000])
    rows = {name: X[: len(X) // share] for name, share in runs.items()}
    seconds, _ = timed({name: partial(getattr(model, name), rows[name]) for name in runs}, sizes["turns"], device)
    print(heading("method", "rows", "columns", "s", "rows per second"))
    for name, s in seconds.items():
        n, s = len(rows[name]), np.median(s)
        print(line(name, f"{n:,}", X.shape[1], f"{s:.3f}", f"{n / s:.3g}"))


PARTS = first_hour.PARTS | {
    "No synchronisation in an epoch": no_synchronisation,
    "An epoch, small": partial(epochs, name="small", compiled=False),
    "An epoch, large": partial(epochs, name="large", compiled=False),
    "A chip that is full": filling,
    "Seconds of fit": fits,
    "Held-out score": held_out,
    "Linear start": linear_start,
    "Inference": transform,
    "An epoch, small, torch.compile": partial(epochs, name="small", compiled=True),
    "An epoch, large, torch.compile": partial(epochs, name="large", compiled=True),
}


LIMIT = 540  # seconds of all of these
FIRST = {  # in order, with the seconds that each may take
    "Smoke test": 60,
    "Tests": 180,
    "Memory of living estimators": 60,
    "Threads": 60,
    "Two jobs": 90,
    "Compilation and precision": 120,
    "An epoch, small": 90,
    "An epoch, large": 90,
    "Stacked search": 90,
    "Inference": 60,
}


def command_of(part, args):
    """The process that runs a part."""
    if part == "Tests":
        return [sys.executable, "-m", "pytest", "tests/test_cuda.py", "-n", "0", "-q", "-p", "no:cacheprovider"]
    under = [] if args.under is None else [args.under]
    quick = ["--quick"] if args.quick else []
    module = ["-m", *under, "benchmarks.speed.gpu"]
    return [sys.executable, *module, "--device", args.device, *quick, "--parts", part]


def result_of(part, args, seconds):
    """What a part printed, and how it failed, if it did, within so many seconds."""
    environment = {**os.environ, **({"CUDA_LAUNCH_BLOCKING": "1"} if part == "Smoke test" else {})}
    begin = time.perf_counter()
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "env": environment, "timeout": seconds}
    try:
        run = subprocess.run(command_of(part, args), **options)
        printed, failed = run.stdout, f"It ended with status {run.returncode}." if run.returncode else None
    except subprocess.TimeoutExpired as error:
        printed, failed = error.stdout or b"", f"It took longer than {seconds:.0f} s."
    taken = round(time.perf_counter() - begin, 1)
    return {"part": part, "failed": failed, "seconds": taken, "printed": printed.decode(errors="replace")}


def run_first(args):
    """Run the parts of the first hour, each in a process of its own; write the report as they end."""
    begin, results = time.perf_counter(), []
    about = {"device": args.device, "quick": args.quick, "torch": torch.__version__, "date": time.strftime("%Y-%m-%d")}
    if args.device == "cuda":
        about |= {"name": torch.cuda.get_device_name(), "CUDA": torch.version.cuda}
    for part, limit in FIRST.items():
        left = LIMIT - (time.perf_counter() - begin)
        if left < 5:
            results.append({"part": part, "failed": "No time was left.", "seconds": 0.0, "printed": ""})
        else:
            results.append(result_of(part, args, min(limit, left)))
        print(f"{part}: {results[-1]['failed'] or 'passed'} ({results[-1]['seconds']:.0f} s)", flush=True)
        parts = [
            {key: result[key] for key in ("part", "failed", "seconds")} | {"tables": tables_of(result["printed"])}
            for result in results
        ]
        args.output.with_suffix(".json").write_text(json.dumps({**about, "parts": parts}, indent=1) + "\n")
        texts = [f"## {r['part']}\n\n{r['failed'] or 'passed'}\n\n```\n{r['printed'].strip()}\n```\n" for r in results]
        args.output.with_suffix(".md").write_text("\n".join([f"# {about}\n", *texts]))
    failed = [result["part"] for result in results if result["failed"]]
    print(f"{time.perf_counter() - begin:.0f} s in all. Failed: {', '.join(failed) or 'none'}.")
    sys.exit(bool(failed))


def main():
    parser = parser_of(__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--all", action="store_true", help="the parts of the first hour, each in a process, and tests")
    parser.add_argument("--output", type=Path, default=Path("speed.gpu"), help="of --all, without a suffix")
    parser.add_argument("--under", help="a module that runs those processes, as tests.rehearsal does")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: figures without meaning")
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        sys.exit("torch finds no CUDA device here. `--device cpu --quick` runs every line at tiny sizes.")
    if args.all:
        run_first(args)
    sys.stdout.reconfigure(line_buffering=True)
    name = torch.cuda.get_device_name() if args.device == "cuda" else args.device
    print(f"{name}, torch {torch.__version__}, CUDA {torch.version.cuda}, {time.strftime('%Y-%m-%d')}")
    begin, failed = time.perf_counter(), []
    for part in args.parts:
        print(f"\n## {part}\n")
        start = time.perf_counter()
        try:
            sizes = first_hour if part in first_hour.PARTS else sys.modules[__name__]
            PARTS[part](sizes.QUICK if args.quick else sizes.FULL_SIZE, args.device)
        except Exception:
            failed.append(part)
            print(f"\n```\n{traceback.format_exc()}```")
        print(f"\n{time.perf_counter() - start:.0f} s")
    print(f"\n{time.perf_counter() - begin:.0f} s in all." + f" Failed: {', '.join(failed)}." * bool(failed))
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
