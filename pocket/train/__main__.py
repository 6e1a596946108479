"""``make train``: everything from the artwork to the weights, resumable at any point.

    python -m pocket.train [--only autoencoder|encode|unet128|unet256|decoder|export] [--processes N] [--runs FOLDER]
                           [--copy-to FOLDER] [--autoencoder N] [--pool N] [--unet128 N] [--unet256 N] [--decoder N]
                           [--fresh SHARE]
    python -m pocket.train --device cuda --minutes 9

The second form draws with all cores, trains on one device and writes weights within the time.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

# Spinning OpenMP threads starve each other when anything else runs on the machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from pocket.paths import RUNS
from pocket.world.artwork import ARCHIVE


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=["autoencoder", "encode", "unet128", "unet256", "decoder", "export"])
    parser.add_argument("--runs", type=Path, default=RUNS / "pocket3", help="where checkpoints and latents are kept")
    parser.add_argument("--copy-to", type=Path, action="append", default=[], help="a second place for checkpoints")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="each takes its share of a batch")
    parser.add_argument("--autoencoder", type=int, default=60_000, help="pictures that the autoencoder sees")
    parser.add_argument("--decoder", type=int, default=30_000, help="and then the decoder alone, at the end")
    parser.add_argument("--start", type=Path, help="a diffusers folder whose autoencoder is trained further")
    parser.add_argument("--pool", type=int, default=65_536, help="encoded pictures that are kept")
    parser.add_argument("--first", type=int, default=8_192, help="of these, how many there are before the UNet begins")
    parser.add_argument("--fresh", type=float, default=0.25, help="pictures drawn for each sample of the UNet")
    parser.add_argument("--unet128", type=int, default=1_500_000, help="samples of 128 px that the UNet sees")
    parser.add_argument("--unet256", type=int, default=700_000, help="and of 256 px")
    parser.add_argument("--artwork", type=Path, default=ARCHIVE, help="rendered artwork; made where it is missing")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--minutes", type=float, help="do all of it within this time, on one device")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Run the stages in order; each is skipped or resumed as far as its checkpoint goes."""
    options = parse(argv)
    from pocket.train import stages

    if options.minutes is not None:
        stages.within_minutes(options)
        return
    for name, stage in stages.STAGES.items():
        if options.only in (None, name):
            print(f"stage {name}", flush=True)
            stage(options)


if __name__ == "__main__":
    main()
