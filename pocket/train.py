"""``make train``: everything from the artwork to the weights, resumable at any point.

    python -m pocket.train [--vae-samples N] [--latents N] [--samples N] [--only vae|latents|unet|export]
                           [--warm-start] [--processes N]
"""

from __future__ import annotations

import argparse
import os

# Spinning OpenMP threads starve each other when anything else runs on the machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def main(argv: list[str] | None = None) -> None:
    """Run the stages in order; each is skipped or resumed as far as its checkpoint goes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vae-samples", type=int, default=340_000, help="pictures that the autoencoder sees")
    parser.add_argument("--latents", type=int, default=160_000, help="pictures that are encoded for the UNet")
    parser.add_argument("--samples", type=int, default=2_000_000, help="latents that the UNet sees")
    parser.add_argument("--only", choices=["vae", "latents", "unet", "export"])
    parser.add_argument("--warm-start", action="store_true", help="start from the shipped weights, not from nothing")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="each takes its share of a batch")
    options = parser.parse_args(argv)

    from pocket import export, unet, vae, workers

    if options.warm_start:
        export.restore()
    stages = {
        "vae": lambda: workers.run(vae.train, options.vae_samples, options.processes),
        "latents": lambda: workers.run(unet.cache_latents, options.latents, options.processes),
        "unet": lambda: workers.run(unet.train, options.samples, options.processes),
        "export": export.export,
    }
    for name, stage in stages.items():
        if options.only in (None, name):
            stage()


if __name__ == "__main__":
    main()
