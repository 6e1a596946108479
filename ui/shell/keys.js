// "?" opens the list of keys, unless someone types; so does the button at the page's foot.
const dialog = element.querySelector('dialog');
const TYPING = 'input, textarea, select, [contenteditable], [role="listbox"]';

function open() { if (!document.querySelector('dialog[open]')) dialog.showModal(); }

function keys(event) {
  if (!element.isConnected) { document.removeEventListener('keydown', keys); return; }
  if (event.key !== '?' || event.ctrlKey || event.metaKey || event.altKey || event.target.closest?.(TYPING)) return;
  event.preventDefault();
  open();
}

if (/Mac|iPhone|iPad/.test(navigator.platform)) {
  // Also for the labels on buttons.
  document.documentElement.style.setProperty('--ctrl', '"\u2318"');
  for (const cap of dialog.querySelectorAll('[data-ctrl]')) cap.textContent = '\u2318';
}
dialog.querySelector('[data-part="close"]').addEventListener('click', () => dialog.close());
dialog.addEventListener('click', (event) => { if (event.target === dialog) dialog.close(); });
document.addEventListener('keydown', keys);
document.addEventListener('playground:keys', open);
