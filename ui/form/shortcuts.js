// Ctrl or Cmd with Enter generates with the visible form, Escape stops.
const desk = element.closest('.workspace');
function keys(event) {
  if (!element.isConnected) { document.removeEventListener('keydown', keys); return; }
  // A dialog has keys of its own.
  if (!desk?.offsetParent || document.querySelector('dialog[open]')) return;
  const busy = desk.dataset.busy === 'yes';
  if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    if (!busy) desk.querySelector('.generate-button')?.click();
  } else if (event.key === 'Escape' && busy) {
    desk.querySelector('.stop-button')?.click();
  }
}
document.addEventListener('keydown', keys);
