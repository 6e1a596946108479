// A sentence that was dismissed is not shown again by this browser; another one is.
const DISMISSED = 'diffusion-playground-card-notice';
const bar = element.querySelector('.card-notice');
const part = (name) => element.querySelector(`[data-part="${name}"]`);
const root = document.documentElement;
// The tabs below are as high as the window less the line.
const measure = () => root.style.setProperty('--notice', bar.hidden ? '0px' : `${bar.offsetHeight}px`);
const dismissed = () => {
  try {
    return localStorage.getItem(DISMISSED);
  } catch {
    return null;
  }
};
const draw = () => {
  const { text = '', command = '' } = props.value || {};
  part('text').textContent = text;
  part('copy').hidden = !command || !navigator.clipboard;
  part('copy').textContent = 'Copy the command';
  bar.hidden = !text || dismissed() === text;
  measure();
};
part('copy').addEventListener('click', async () => {
  try {
    await navigator.clipboard.writeText(props.value.command);
    part('copy').textContent = 'Copied';
  } catch {
    // The sentence has it, too.
  }
});
part('close').addEventListener('click', () => {
  try {
    localStorage.setItem(DISMISSED, props.value.text);
  } catch {
    // Without storage it comes back with the next visit.
  }
  bar.hidden = true;
  measure();
});
new ResizeObserver(measure).observe(bar);
watch('value', draw);
draw();
