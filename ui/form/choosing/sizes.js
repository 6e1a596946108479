// The shapes that the model was made for; where the picture stands upright, so do they.
const part = (name) => element.querySelector(`[data-part="${name}"]`);

function shape([ratio, width, height], upright) {
  const [across, down] = ratio.split(':');
  const [w, h] = upright ? [height, width] : [width, height];
  const button = document.createElement('button');
  Object.assign(button, { type: 'button', className: 'chip', textContent: upright ? `${down}:${across}` : ratio, title: `${w} × ${h}` });
  button.setAttribute('aria-label', `${button.textContent}, ${w} by ${h}`);
  button.setAttribute('aria-pressed', String(props.value.width === w && props.value.height === h));
  button.dataset.ratio = ratio;
  button.addEventListener('click', () => trigger('shape', { ratio, upright }));
  return button;
}

function draw() {
  const { value } = props;
  if (!value) return;
  const upright = value.height > value.width;
  const focused = element.contains(document.activeElement) ? document.activeElement.dataset.ratio : null;
  part('shapes').replaceChildren(...value.shapes.map((one) => shape(one, upright)));
  if (focused) part('shapes').querySelector(`[data-ratio="${focused}"]`)?.focus();
}

part('swap').addEventListener('click', () => trigger('shape', { ratio: 'swap' }));
watch('value', draw);
draw();
