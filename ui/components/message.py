"""A line of text that may contain a user's words: written as text, never as HTML."""

from __future__ import annotations

import gradio as gr

_DRAW = """
const line = element.querySelector('p');
const text = () => props.value?.text ?? (props.value || '');
const draw = () => {
  line.replaceChildren(text());
  line.hidden = !text();
  if (props.value?.label) line.append(' ', next(props.value));
};
// What to do about it: another tab, or a change of the form, which makes it.
const next = (step) => {
  const button = document.createElement('button');
  Object.assign(button, { type: 'button', className: 'quiet next-step', textContent: step.label });
  button.addEventListener('click', () => {
    if (step.to.startsWith('#/')) location.hash = step.to;
    else {
      // What is mended is no longer said; a file is still to be chosen.
      line.hidden = step.to !== 'source';
      const detail = { ...step, from: element, of: line.dataset.of };
      document.dispatchEvent(new CustomEvent('playground:mend', { detail }));
    }
  });
  return button;
};
// An error comes into view, once the drawer that holds it is open.
const come = () => { if (line.offsetParent && !line.hidden) line.scrollIntoView({ block: 'nearest' }); };
const alarm = () => { if (line.getAttribute('role') === 'alert' && text()) setTimeout(come, 150); };
// The control that it is about is marked, which may be built only when its drawer opens.
const { of } = line.dataset;
const FIELDS = 'textarea, input:not([type="radio"], [type="file"])';
let asked = 0;
const mark = () => {
  clearTimeout(asked);
  if (!of || !element.isConnected) return;
  const wrong = Boolean(text());
  const found = document.getElementById(of)?.querySelectorAll(FIELDS) || [];
  for (const field of found) {
    if (wrong) { field.setAttribute('aria-invalid', 'true'); field.setAttribute('aria-describedby', line.id); }
    else if (field.getAttribute('aria-describedby') === line.id) {
      for (const name of ['aria-invalid', 'aria-describedby']) field.removeAttribute(name);
    }
  }
  if (wrong && !found.length) asked = setTimeout(mark, 100);
};
watch('value', () => { draw(); alarm(); mark(); });
draw();
mark();
"""


def message(value: str = "", *, elem_id: str, alert: bool = False, status: bool = False, of: str = "") -> gr.HTML:
    """A paragraph that takes no space while empty; screen readers read an alert at once and a status when idle.

    Args:
        value: the text; later values may be ``{"text", "label", "to"}``, with a button for the next step: see
            ``next_steps``.
        elem_id: of the component; the paragraph's is that with ``-text``.
        alert, status: how it is read.
        of: id of the control that the text describes while there is one.
    """
    role = "alert" if alert else "status" if status else "note"
    kind = "sentence problem" if alert else "sentence"
    about = f' data-of="{of}"' if of else ""
    template = f'<p class="{kind}" role="{role}" id="{elem_id}-text"{about}></p>'
    return gr.HTML(value, html_template=template, js_on_load=_DRAW, elem_id=elem_id)
