"""The page of teaching, as static templates: all choices in them come from the program's own tables."""

from __future__ import annotations

from pipelines.training.fine_tuning.settings import (
    DEFAULT_PRESET,
    DRAWER,
    LORA,
    MAX_PICTURES,
    MAX_WORD,
    MIN_PICTURES,
    PRESETS,
    WAYS,
)

_PRESETS = "".join(
    f'<button type="button" data-preset="{name}" aria-pressed="{str(name == DEFAULT_PRESET).lower()}" '
    f'title="{preset.about}">{preset.label}</button>'
    for name, preset in PRESETS.items()
)
_WAYS = "".join(
    f'<label class="way"><input type="radio" name="teach-way" value="{name}"{" checked" if name == LORA else ""}>'
    f"<span><b>{label}</b> {about}</span></label>"
    for name, (label, about) in WAYS.items()
)
_DRAWER = "".join(
    f'<label>{label} <select data-changed="{name}"><option value="">as the preset</option>'
    f"{''.join(f'<option>{value:g}</option>' for value in values)}</select><small>{about}</small></label>"
    for name, (label, about, values) in DRAWER.items()
)
# Name -> colour of the pen.
INKS = {
    "Black": "#1c1b1a", "Red": "#d0342c", "Orange": "#f08a24", "Yellow": "#f5cf3d", "Green": "#3d9a50",
    "Blue": "#3b6fd4", "Purple": "#8445b5", "Brown": "#8a5a35", "White": "#ffffff",
}  # fmt: skip
_INKS = "".join(
    f'<button type="button" data-ink="{colour}" aria-pressed="{str(name == "Black").lower()}" title="{name}" '
    f'aria-label="{name}"></button>'
    for name, colour in INKS.items()
)
TEMPLATE = f"""
<section class="teach" data-state="empty" aria-label="Teach a model a new word">
  <div class="given">
    <h2>Teach it a new word</h2>
    <p class="told">Give {MIN_PICTURES} to {MAX_PICTURES} pictures of one thing and a word that means nothing yet. The
      model trains here while you watch, and you keep the state that you like best.</p>
    <div class="drop" data-part="drop">
      <div class="tiles" data-part="tiles"></div>
      <div class="acts">
        <button type="button" class="quiet" data-do="choose">Choose pictures</button>
        <button type="button" class="quiet" data-do="recent" aria-haspopup="dialog">From the history</button>
        <button type="button" class="quiet" data-do="draw" aria-haspopup="dialog">Draw</button>
        <span class="aside" data-part="count">or drop them here</span></div>
      <input type="file" data-part="files" multiple accept=".png,.jpg,.jpeg,.webp" hidden aria-label="Pictures">
    </div>
    <div class="asked">
      <label>New word <input type="text" data-part="word" maxlength="{MAX_WORD}" placeholder="zorp" autocomplete="off"
        spellcheck="false"></label>
      <label>Model <select data-part="model"></select></label>
      <p class="note" data-part="note" role="status"></p></div>
    <div class="choices" role="group" aria-label="How thoroughly">{_PRESETS}</div>
    <div class="acts">
      <button type="button" class="primary-act" data-do="begin">Teach</button>
      <button type="button" class="quiet" data-do="pause" hidden>Pause</button>
      <button type="button" class="quiet" data-do="resume" hidden>Go on</button>
      <button type="button" class="quiet" data-do="stop" hidden>Stop</button></div>
    <p class="progress" data-part="progress" role="status"></p>
    <p class="sentence problem" data-part="problem" role="alert" hidden></p>
    <details><summary>All settings of the training</summary>
      <div class="drawer">
        <fieldset class="ways"><legend>What learns</legend>{_WAYS}</fieldset>
        <label class="wide">A setting that no picture shows <input type="text" data-part="setting" autocomplete="off">
          <small>Drawn again and again while it learns, to see whether the word can be used.</small></label>
        {_DRAWER}
        <label class="wide">Licence note <input type="text" data-part="licence" maxlength="300" autocomplete="off">
          <small>Who may use the result; it is written into the file.</small></label>
      </div></details>
  </div>
  <div class="seen">
    <p class="empty" data-part="empty">Here you watch it learn: the new thing, the new thing in a setting that it was
      never shown in, and two old things, drawn again from the same noise every few steps.</p>
    <div class="large" data-part="large" hidden></div>
    <div class="timeline-of-steps" data-part="steps" role="radiogroup" aria-label="Training steps" hidden></div>
    <div class="acts keep" data-part="keep" hidden>
      <button type="button" class="quiet second" data-do="save">Save this state</button>
      <button type="button" class="quiet" data-do="download">For other programs</button></div>
    <p class="sentence" data-part="saved" role="status"></p>
    <div class="charts" data-part="charts" hidden>
      <figure><svg data-part="curve" viewBox="0 0 300 100" preserveAspectRatio="none" role="img"
        aria-label="Loss over the training steps"><polyline class="line"></polyline><g class="held"></g></svg>
        <figcaption><span>first step</span><b data-part="curve-text">loss</b><span>now</span></figcaption></figure>
      <figure><svg data-part="levels" viewBox="0 0 300 100" preserveAspectRatio="none" role="img"
        aria-label="Loss at each noise level"></svg>
        <figcaption><span>little noise</span><b>loss by noise level</b><span>much noise</span></figcaption></figure>
    </div>
  </div>
  <dialog data-part="picker" aria-label="Pictures of the history">
    <header><h2>From the history</h2><button type="button" class="quiet" data-do="close-picker">Done</button></header>
    <div class="tiles" data-part="entries"></div></dialog>
  <dialog class="paper" data-paper="dialog" aria-label="Draw a picture">
    <header><h2>Draw a picture</h2><button type="button" class="quiet" data-paper="close">Done</button></header>
    <div class="sheet"><canvas data-paper="canvas" width="384" height="384" tabindex="0" role="img"
        aria-label="Paper. Drag to draw; or space puts the pen down or lifts it, and arrows move it"></canvas>
      <i data-paper="nib" aria-hidden="true"></i></div>
    <div class="inks" role="group" aria-label="Colour of the pen">{_INKS}</div>
    <div class="acts"><button type="button" class="primary-act" data-paper="add">Add this picture</button>
      <button type="button" class="quiet" data-paper="fill">Fill the paper</button>
      <label>Line <select data-paper="width"><option value="6">thin</option><option value="16" selected>medium</option
        ><option value="40">thick</option></select></label></div>
    <p class="aside" data-paper="told" role="status">Drag to draw. With the keys: space puts the pen down or lifts it,
      arrows move it.</p></dialog>
</section>
"""
