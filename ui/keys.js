// Ctrl or Cmd with Enter makes the picture of the desk that is in view, Escape stops it.
const desk = element.closest('.desk');
function keys(event) {
  if (!element.isConnected) { document.removeEventListener('keydown', keys); return; }
  if (!desk?.offsetParent) return;
  const busy = desk.dataset.busy === 'yes';
  if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    if (!busy) desk.querySelector('.go-make')?.click();
  } else if (event.key === 'Escape' && busy) {
    desk.querySelector('.go-stop')?.click();
  }
}
document.addEventListener('keydown', keys);
