"""The name of the program and its mark: noise that resolves into a picture."""

from __future__ import annotations

import gradio as gr

_TEMPLATE = """
<div class="brand">
  <canvas width="60" height="60" aria-hidden="true"></canvas><h1>Diffusion Playground</h1>
</div>
"""
# Grains of violet noise on the left, a disc on amber on the right, and the grains thin out in between.
_DRAW = """
const canvas = element.querySelector('canvas');
const context = canvas.getContext('2d');
const side = canvas.width;
let seed = 7;
const random = () => { seed = (seed * 16807) % 2147483647; return seed / 2147483647; };
const sky = context.createLinearGradient(0, 0, side, 0);
sky.addColorStop(0, '#6d4bd0');
sky.addColorStop(0.55, '#b3674f');
sky.addColorStop(1, '#e29a1f');
context.fillStyle = sky;
context.fillRect(0, 0, side, side);
context.fillStyle = '#fff6e4';
context.beginPath();
context.arc(side * 0.62, side * 0.56, side * 0.23, 0, 7);
context.fill();
for (let x = 0; x < side; x += 4) {
  for (let y = 0; y < side; y += 4) {
    if (random() < (x / side) * 1.25) continue;
    context.fillStyle = ['#3c2a86', '#8f76e8', '#cfc3ff', '#e29a1f', '#4c379c'][Math.floor(random() * 5)];
    context.fillRect(x, y, 4, 4);
  }
}
"""


def brand(elem_id: str) -> gr.HTML:
    """The component."""
    return gr.HTML(html_template=_TEMPLATE, js_on_load=_DRAW, elem_id=elem_id, apply_default_css=False)
