"""ComfyUI: the graph that was run, as JSON in ``prompt``; read backwards from the node that saved the picture.

The classic KSampler nodes, SamplerCustom, and SamplerCustomAdvanced with its noise, guider, sampler and sigmas in nodes
of their own (FLUX), with LoRAs, text that is put together in other nodes, and nodes of extensions whose inputs have the
usual names.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from history.readers.settings import ForeignSettings, SettingsBuilder
from pipelines.images.file_texts import FileTexts
from pipelines.prompt import A1111
from pipelines.request import MAX_PROMPT
from pipelines.system.bounded_json import parse_json

# Bounds of a graph: bytes, nodes, nodes that a walk looks at, links that it follows, and values that lead on to others.
MAX_BYTES, MAX_NODES, MAX_WALK, MAX_LINKS, MAX_HOPS = 4 * 2**20, 5000, 2000, 20_000, 16
# A text that is put together ends here: more than any prompt is long.
MAX_JOINED = 10 * MAX_PROMPT
_SAMPLER_INPUTS = {"sampler_name", "sampler", "steps", "cfg", "seed", "noise_seed", "sigmas", "guider"}
# Inputs that hold a text, the most telling first; and those that hold any value.
_TEXTS = ("text", "text_g", "text_l", "t5xxl", "clip_l", "prompt", "string", "populated_text", "value", "string_a")
# Inputs of nodes that put texts together.
_PARTS = ("string_a", "string_b", "text_a", "text_b", "text_c", "text1", "text2")
# Parts of SamplerCustomAdvanced, and the inputs by which the node is known that has the part's settings.
_SETTINGS_OF = {
    "noise": ("noise_seed", "seed"), "guider": ("cfg", "conditioning", "positive"), "sampler": ("sampler_name",),
    "sigmas": ("steps",),
}  # fmt: skip
_VALUES = ("value", "int", "float", "number", "seed", "noise_seed", "Value", "INT")
Node = dict[str, Any]


def read(texts: FileTexts) -> ForeignSettings | None:
    """The settings in a file's texts, or None."""
    text = next((found for name in ("prompt", "Prompt") if (found := texts.texts.get(name))), "")
    for candidate in (text, *_in_exif(texts)):
        if candidate.lstrip().startswith("{") and (settings := parse(candidate)) is not None:
            return settings
    return None


def _in_exif(texts: FileTexts) -> Iterator[str]:
    """JPEG and WebP: "prompt:{...}" in EXIF texts (ComfyUI's own WebP), or the JSON in the user comment."""
    for value in (*texts.camera.values(), texts.user_comment):
        yield value[value.find("{") :] if value.lower().startswith("prompt:") else value


def parse(text: str) -> ForeignSettings | None:
    """The settings in a graph, or None if it is none or has no sampler."""
    try:
        graph = parse_json(text, MAX_BYTES, finite=False)
    except (ValueError, RecursionError):
        return None
    nodes = _nodes(graph)
    if not nodes:
        return None
    reader = _GraphReader(nodes, SettingsBuilder("ComfyUI", text, A1111))
    sampler = reader.sampler()
    return reader.settings(*sampler) if sampler else None


def _nodes(graph: Any) -> dict[str, Node]:
    if isinstance(graph, dict) and isinstance(graph.get("prompt"), dict):
        graph = graph["prompt"]
    if not isinstance(graph, dict) or len(graph) > MAX_NODES:
        return {}
    return {
        str(name): node
        for name, node in graph.items()
        if isinstance(node, dict) and isinstance(node.get("inputs"), dict) and isinstance(node.get("class_type"), str)
    }


class _GraphReader:
    """Reads one graph.

    Args:
        nodes: by their names.
        builder: collects what is found.
    """

    def __init__(self, nodes: dict[str, Node], builder: SettingsBuilder) -> None:
        self._nodes, self._builder = nodes, builder
        # The texts of nodes that were put together already: nodes that share parts would be read again and again.
        self._texts: dict[str, str] = {}

    # -- walking -----------------------------------------------------------------------------------------------

    def _linked(self, value: Any) -> str:
        """The name of the node that an input is linked to, or ""."""
        if isinstance(value, list) and len(value) == 2 and isinstance(value[0], str | int):
            return str(value[0]) if str(value[0]) in self._nodes else ""
        return ""

    def upstream(self, start: str, seen: set[str] | None = None) -> Iterator[tuple[str, Node]]:
        """The nodes that a node depends on, itself first, the nearest first.

        Args:
            start: the name of the node.
            seen: nodes that are left out with what they depend on; those of this walk are added.
        """
        seen, queue = set() if seen is None else seen, [start]
        seen.add(start)
        for name in queue:
            yield name, self._nodes[name]
            for value in self._nodes[name]["inputs"].values():
                if (before := self._linked(value)) and before not in seen and len(queue) < MAX_WALK:
                    seen.add(before)
                    queue.append(before)

    def sampler(self) -> tuple[str, Node] | None:
        """The sampler of the saved picture: of several, the nearest to the node that saves.

        One that works on a finished picture, such as a face detailer, is it only where no other came before.
        """
        saving = [name for name, node in self._nodes.items() if "save" in node["class_type"].lower()]
        showing = [name for name, node in self._nodes.items() if "preview" in node["class_type"].lower()]
        seen = set[str]()  # no sampler is before a node that an earlier walk has passed
        for start in [*saving, *showing, *self._nodes]:
            if start in seen:
                continue
            found = [(name, node) for name, node in self.upstream(start, seen) if _is_sampler(node)]
            first = next((each for each in found if not self._linked(each[1]["inputs"].get("image"))), None)
            if found:
                sampler = first or found[0]
                for _, after in found[: found.index(sampler)]:
                    self._list(after)
                return sampler
        return None

    def _list(self, node: Node) -> None:
        """List a node whose settings have no counterpart here."""
        values = {name: value for name, value in node["inputs"].items() if isinstance(value, str | int | float)}
        self._builder.unused(node["class_type"], ", ".join(f"{k} {v}" for k, v in values.items()) or "used")

    def value(self, given: Any, names: tuple[str, ...] = _VALUES) -> Any:
        """A value, followed through nodes that only hold one."""
        for _ in range(MAX_HOPS):
            node = self._linked(given)
            if not node:
                return given
            inputs = self._nodes[node]["inputs"]
            found = next((inputs[name] for name in names if name in inputs), None)
            if found is None:
                return None
            given = found
        return None

    # -- reading -----------------------------------------------------------------------------------------------

    def settings(self, name: str, node: Node) -> ForeignSettings | None:
        """The settings of a sampler."""
        inputs, builder = dict(node["inputs"]), self._builder
        parts = {part: self._part(inputs.get(part), names) for part, names in _SETTINGS_OF.items()}
        for part in parts.values():  # of SamplerCustomAdvanced, whose settings are in nodes of their own
            inputs = {**part, **inputs}
        builder.seed(self.value(inputs.get("seed", inputs.get("noise_seed"))))
        if (steps := self.value(inputs.get("steps"))) is not None:
            builder.steps(steps)
        builder.sampler(self._text_value(inputs.get("sampler_name")), self._text_value(inputs.get("scheduler")))
        denoise = self.value(inputs.get("denoise"))
        if denoise not in (None, 1, 1.0):
            builder.strength(denoise)
        self._guidance(inputs)
        positive = inputs.get("positive", inputs.get("conditioning"))
        builder.prompts(self.text(positive, "positive"), self.text(inputs.get("negative"), "negative"))
        self._size(inputs.get("latent_image", inputs.get("samples")))
        self._files(name, inputs.get("model"))
        return builder.build()

    def _part(self, link: Any, names: tuple[str, ...]) -> dict[str, Any]:
        """The inputs of the nearest node with settings of such names; those before it are listed."""
        start, passed = self._linked(link), list[Node]()
        for _, node in self.upstream(start) if start else ():
            if any(name in node["inputs"] for name in names):
                for each in passed:
                    self._list(each)
                return dict(node["inputs"])
            passed.append(node)
        if passed and "sampler_name" in names:  # a node for one sampler alone
            return {"sampler_name": passed[0]["class_type"]}
        return dict(passed[0]["inputs"]) if passed else {}

    def _text_value(self, given: Any) -> Any:
        return self.value(given, ("sampler_name", "scheduler", "value", "string", "text"))

    def _guidance(self, inputs: dict[str, Any]) -> None:
        """The guidance scale; models with guidance as an input have it in a node between prompt and sampler."""
        embedded = None
        if name := self._linked(inputs.get("positive", inputs.get("conditioning"))):
            nodes = (node["inputs"] for _, node in self.upstream(name))
            embedded = next((self.value(found["guidance"]) for found in nodes if "guidance" in found), None)
        scale = self.value(inputs.get("cfg"))
        if embedded is not None and scale in (None, 1, 1.0):
            self._builder.guidance(embedded)
        elif scale is not None:
            self._builder.guidance(scale)

    def text(self, link: Any, role: str) -> str:
        """The prompt that a conditioning was made from: the texts of the nodes that encode some.

        Args:
            link: to the conditioning.
            role: whether it is the "positive" or the "negative" one.
        """
        if not self._linked(link):
            return link if isinstance(link, str) else ""
        queue, seen, found = [link], set[tuple[str, str]](), dict[str, None]()
        for each in queue:
            name = self._linked(each)
            # A slot should be a number; a hostile graph may hold any other value there.
            place = (name, str(each[1])[:20] if name and isinstance(each[1], str | int) else "")
            if not name or place in seen or len(seen) >= MAX_WALK:
                continue
            seen.add(place)
            texts = self._encoded(self._nodes[name])
            found |= dict.fromkeys(texts)
            if not texts and len(queue) < MAX_LINKS:
                queue += _conditionings(self._nodes[name], each[1], role)[:MAX_LINKS]
            if sum(map(len, found)) > MAX_JOINED:
                break
        return "\n".join(found)[:MAX_JOINED]

    def _encoded(self, node: Node) -> list[str]:
        """The texts that a node encodes, each once."""
        kind = node["class_type"].lower()
        if "encode" not in kind or "vae" in kind:
            return []
        texts = (self._joined(node["inputs"].get(name)) for name in _TEXTS)
        return list(dict.fromkeys(filter(None, texts)))

    def _joined(self, given: Any, hops: int = 0) -> str:
        """A text, or those of the nodes that it is put together from."""
        if isinstance(given, str):
            return given[:MAX_JOINED]
        name = self._linked(given)
        if not name or hops > MAX_HOPS:
            return ""
        if name not in self._texts:
            self._texts[name] = ""  # of a circle
            self._texts[name] = self._put_together(self._nodes[name]["inputs"], hops)
        return self._texts[name]

    def _put_together(self, inputs: dict[str, Any], hops: int) -> str:
        """The text of a node's inputs: several parts with what stands between them, else the first that is a text."""
        joined = inputs.get("delimiter", inputs.get("separator", " "))
        parts = [inputs[part] for part in _PARTS if part in inputs]
        if len(parts) > 1:
            found = [text for part in parts[:8] if (text := self._joined(part, hops + 4))]
            return (joined[:MAX_JOINED] if isinstance(joined, str) else " ").join(found)[:MAX_JOINED]
        return self._joined(next((inputs[each] for each in _TEXTS if each in inputs), None), hops + 1)

    def _size(self, link: Any) -> None:
        """The size of the empty latents that it began with."""
        start = self._linked(link)
        for _, node in self.upstream(start) if start else ():
            inputs = node["inputs"]
            if "latent" in node["class_type"].lower() and {"width", "height"} <= inputs.keys():
                self._builder.size(self.value(inputs["width"]), self.value(inputs["height"]))
                return

    def _files(self, sampler: str, link: Any) -> None:
        """Model, LoRAs and VAE; of a chain of LoRAs those that lie on the sampler's own way."""
        start = self._linked(link) or sampler
        model = False
        for _, node in self.upstream(start):
            inputs = node["inputs"]
            if not model and (found := next((inputs[k] for k in ("ckpt_name", "unet_name") if k in inputs), None)):
                self._builder.model(self.value(found, ("ckpt_name", "unet_name", "value")))
                model = True
            if isinstance(name := self.value(inputs.get("lora_name"), ("lora_name", "value")), str):
                self._builder.lora(name, self.value(inputs.get("strength_model", inputs.get("strength", 1.0))))
            for several in inputs.values():  # "Power Lora Loader"
                if isinstance(several, dict) and several.get("on") and isinstance(several.get("lora"), str):
                    self._builder.lora(several["lora"], several.get("strength", 1.0))
        for _, node in self.upstream(sampler):
            if "stop_at_clip_layer" in node["inputs"]:
                self._builder.clip_skip(self.value(node["inputs"]["stop_at_clip_layer"]))
        for node in self._nodes.values():
            if isinstance(vae := node["inputs"].get("vae_name"), str):
                self._builder.vae(vae)
                return


def _conditionings(node: Node, slot: Any, role: str) -> list[Any]:
    """The inputs that one of a node's outputs comes from.

    Nodes that change both conditionings have the positive one as their first output and the negative one as their
    second; those that pass many things on, elsewhere.
    """
    inputs = node["inputs"]
    if node["class_type"] == "ConditioningZeroOut":
        return []
    if {"positive", "negative"} <= inputs.keys():
        return [inputs[{0: "positive", 1: "negative"}.get(slot, role) if isinstance(slot, int) else role]]
    named = [value for name, value in inputs.items() if "cond" in name.lower() or name == role]
    return named or list(inputs.values())


def _is_sampler(node: Node) -> bool:
    """Whether a node samples: by its name, or by inputs that only samplers have."""
    inputs = node["inputs"].keys()
    if "sampler" in node["class_type"].lower() and len(inputs & _SAMPLER_INPUTS) >= 2:
        return True
    return {"steps", "cfg"} <= inputs and bool(inputs & {"seed", "noise_seed"}) and "positive" in inputs
