"""The markup of the Compare tab: the setup on the left, the viewer on the right."""

from __future__ import annotations

from collections.abc import Mapping

from ui.inspector.export import CAPSULE

# What a comparison is saved as, each with what its button says.
KINDS: Mapping[str, str] = {
    "sheet": "labelled picture",
    "zip": "all as zip",
    "webp": "WebP",
    "gif": "GIF",
    "mp4": "MP4",
    CAPSULE: "capsule",
}

_MODES = {"two": "Two runs", "one": "One setting", "race": "Samplers", "grid": "Grid"}
_AXIS = """
<div class="axis" data-axis="{name}">
  <label>{title}<select data-part="setting" aria-label="{title}"></select></label>
  <p class="does" data-part="does" hidden></p>
  <label>Values<textarea rows="1" data-part="values" spellcheck="false" maxlength="4000"></textarea></label>
  <p class="tip-line" data-part="hint"></p>
  <div class="choices" data-part="choices" role="group" aria-label="Values to choose from" hidden></div>
  <p class="sentence problem" data-part="problem" role="alert" hidden></p>
</div>
"""
_RADIO = '<label><input type="radio" name="compare-mode" value="{value}"><span>{label}</span></label>'
SETUP = f"""
<form class="compare-setup" aria-label="What to compare">
  <fieldset class="modes"><legend class="unseen">What to compare</legend>
    {"".join(_RADIO.format(value=value, label=label) for value, label in _MODES.items())}</fieldset>
  <p class="tip-line" data-part="about"></p>
  <div class="from"><b data-part="from">Start from</b><ol data-part="runs"></ol>
    <p class="sentence" data-part="title"></p>
    <p class="sentence problem" data-part="problem" role="alert" hidden></p></div>
  {_AXIS.format(name="x", title="What changes")}
  {_AXIS.format(name="y", title="Down the rows")}
  {_AXIS.format(name="pages", title="On further pages")}
  <p class="cost" data-part="cost" role="status"></p>
  <p class="cost" data-part="waits" role="status" hidden></p>
  <div class="go"><button type="submit" class="primary-act" data-do="start">Compare</button>
    <button type="button" class="quiet" data-do="stop" hidden>Stop</button></div>
  <label class="open-plan">Open a saved comparison
    <input type="file" accept=".json,application/json" data-part="file"></label>
</form>
"""
_SAVE = '<button type="button" class="quiet" data-kind="{kind}">Save {label}</button>'
_VIEWER = """
<section class="viewer" data-state="empty" aria-label="Comparison">
  <header><h2 data-part="changes"></h2><p class="sentence" data-part="progress" role="status"></p></header>
  <div class="does" data-part="does"></div>
  <div class="empty" data-part="empty"><canvas width="28" height="28" aria-hidden="true"></canvas>
    <p>Choose two runs, or one run and what is to change. All pictures are then shown at the same noise level,
      from noise to the end.</p></div>
  <div class="level" data-part="level" hidden>
    <button type="button" class="quiet" data-do="play" aria-label="Play from noise to the pictures">Play</button>
    <input type="range" min="0" max="41" value="41" step="1" data-part="at" aria-label="Noise level of all pictures">
    <span class="words" data-part="words"></span>
    <label class="check"><input type="checkbox" data-part="guess"> The model's guess</label>
    <label class="check" data-part="difference-label" hidden><input type="checkbox" data-part="difference">
      Difference</label>
    <label data-part="page-label" hidden><span data-part="page-name"></span> <select data-part="page"></select></label>
  </div>
  <div class="scroll" tabindex="0" role="region" aria-label="Pictures to compare">
    <div class="sheet" data-part="sheet"></div></div>
  <p class="sentence" data-part="sentence"></p>
  <table class="differs" data-part="differs" hidden><thead><tr><th scope="col">Setting</th><th scope="col">A</th>
    <th scope="col">B</th></tr></thead><tbody data-part="rows"></tbody></table>
{saving}</section>
"""
_SAVING = f"""  <div class="saving" data-part="saving" hidden>
    <div class="saves">{"".join(_SAVE.format(kind=kind, label=label) for kind, label in KINDS.items())}</div>
    <p class="sentence" data-part="state" role="status"></p>
    <p class="sentence problem" data-part="problem" role="alert" hidden></p>
    <ul class="files" data-part="files"></ul>
  </div>
"""
VIEW = _VIEWER.format(saving=_SAVING)
# In a capsule, where nothing is saved.
VIEWER_HTML = _VIEWER.format(saving="")
