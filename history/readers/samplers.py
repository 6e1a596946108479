"""Samplers and schedules of other programs, by their names there, as entries of our ``SCHEDULERS``."""

from __future__ import annotations

import re

# Names in small letters and digits alone: "DPM++ 2M" and "dpmpp_2m" are dpmpp2m.
_SAMPLERS = {
    "ddpm": "ddpm",
    "ddim": "ddim", "ddimv3": "ddim",
    "pndm": "pndm", "plms": "pndm",
    "euler": "euler",
    "eulera": "euler_a", "eulerancestral": "euler_a",
    "heun": "heun",
    "dpmpp2m": "dpmpp_2m", "dpmsolverpp": "dpmpp_2m", "dpmsolvermultistep": "dpmpp_2m", "dpmpp": "dpmpp_2m",
    "dpmpp2msde": "dpmpp_2m_sde",
    "dpm2": "dpm2_karras", "kdpm2": "dpm2_karras",
    "unipc": "unipc", "unipcbh2": "unipc",
    "lms": "lms", "lmsd": "lms", "klms": "lms",
    "deis": "deis", "deismultistep": "deis",
    "lcm": "lcm",
    "eulerflowmatch": "flow_euler", "flowmatcheuler": "flow_euler", "flowmatcheulerdiscrete": "flow_euler",
    "heunflowmatch": "flow_heun", "flowmatchheun": "flow_heun",
}  # fmt: skip
# Endings of names that mean a schedule.
_SCHEDULE_ENDINGS = ("karras", "exponential", "polyexponential", "trailing", "ays", "substep", "sgmuniform")
# Schedules that mean "as the model was saved", which is what a sampler does here without a word.
_PLAIN = {"", "automatic", "normal", "simple", "default", "uniform", "none", "native", "discrete", "linear"}
# Samplers that are here with the schedule of Karras et al. 2022, by their names here.
_KARRAS = {"dpmpp_2m": "dpmpp_2m_karras", "dpm2_karras": "dpm2_karras"}
# The schedules that AUTOMATIC1111 chooses for a sampler, where they are others than "normal".
_AUTOMATIC = {"dpmpp_2m": "karras", "dpm2_karras": "karras", "dpmpp_2m_sde": "exponential"}


def match(sampler: str, schedule: str = "") -> tuple[str, bool]:
    """The entry of ``SCHEDULERS`` that a sampler is.

    Args:
        sampler, schedule: the other program's names.

    Returns:
        Its name, "" if there is none; and whether the schedule is that entry's, too.
    """
    name, noise = _plain(sampler), _plain(schedule)
    if re.search(r"_k$", sampler.strip().lower()) and name.endswith("k"):  # InvokeAI's mark of Karras
        name, noise = name[:-1], "karras"
    if name not in _SAMPLERS:
        ending = next((each for each in _SCHEDULE_ENDINGS if name.endswith(each)), "")
        name, noise = name.removesuffix(ending) if ending else name, noise if noise not in _PLAIN else ending
    key = _SAMPLERS.get(name, "")
    noise = _AUTOMATIC.get(key, noise) if noise == "automatic" else noise
    if noise == "karras" and key in _KARRAS:
        return _KARRAS[key], True
    return key, noise in _PLAIN and key not in _KARRAS.values()


def _plain(name: str) -> str:
    """Letters and digits of a name, without what some programs put before or behind all names."""
    text = re.sub(r"^k_|_gpu$|^sample_", "", name.strip().lower()[:100]).replace("+", "p")
    return re.sub(r"[^a-z0-9]", "", text)
